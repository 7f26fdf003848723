(function () {
  "use strict";
  var table = document.getElementById("nights");
  var body = table.tBodies[0];
  var field = document.getElementById("filter");
  var shown = document.getElementById("shown");
  var rows = Array.prototype.slice.call(body.rows);
  var texts = rows.map(function (row) { return row.textContent.toLowerCase(); });
  var collator = new Intl.Collator(undefined, { numeric: true });
  rows.forEach(function (row, i) { row.rank = i; });

  function filter() {
    var words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    var n = 0;
    rows.forEach(function (row, i) {
      var text = texts[row.rank];
      row.hidden = !words.every(function (word) { return text.indexOf(word) >= 0; });
      n += row.hidden ? 0 : 1;
    });
    shown.textContent = words.length ? n + " of " + rows.length + " lines" : "";
  }

  function sort(head, column) {
    var down = head.getAttribute("aria-sort") === "ascending";
    var isNumber = head.dataset.sort === "number";
    var keys = rows.map(function (row) {
      var text = row.cells[column].textContent;
      return isNumber ? parseFloat(text) : text;
    });
    var order = rows.map(function (_, i) { return i; });
    order.sort(function (a, b) {
      var x = keys[a], y = keys[b];
      if (isNumber) {
        if (isNaN(x) || isNaN(y)) { return (isNaN(x) ? 1 : 0) - (isNaN(y) ? 1 : 0) || a - b; }
        return (down ? y - x : x - y) || a - b;
      }
      if (!x || !y) { return (x ? 0 : 1) - (y ? 0 : 1) || a - b; }
      return (down ? collator.compare(y, x) : collator.compare(x, y)) || a - b;
    });
    rows = order.map(function (i) { return rows[i]; });
    Array.prototype.forEach.call(head.parentNode.cells, function (other) {
      other.removeAttribute("aria-sort");
    });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    var all = document.createDocumentFragment();
    rows.forEach(function (row) { all.appendChild(row); });
    body.appendChild(all);
  }

  Array.prototype.forEach.call(table.tHead.rows[0].cells, function (head, column) {
    if (!head.dataset.sort) { return; }
    var button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    button.addEventListener("click", function () { sort(head, column); });
    head.textContent = "";
    head.appendChild(button);
  });
  field.addEventListener("input", filter);
  field.closest("p").hidden = false;
}());
