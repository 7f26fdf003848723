"""What a night says of itself in a terminal and in a notebook."""

from __future__ import annotations

import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from astropy.io import fits

import arrayred as ar
from arrayred.config import TargetFile
from arrayred.errors import InputError, UsageError
from arrayred.io import write_frames
from tests.test_night import dark, frame, light

HEADING = ["type", "group", "frames", "exposure", "size", "deg", "C", "night"]
ELEMENTS = {"div", "p", "b", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
HOSTILE = "<img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """Collects the names of all elements, their attributes and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    tags.close()
    return tags


def test_a_night_tells_its_groups(night: Path) -> None:
    lines = repr(ar.open_night(night)).splitlines()
    assert lines[0] == f"{night}: 8 frames, night of 2024-03-09"
    assert lines[1].split() == HEADING
    dark_row, light_row = (line.split() for line in lines[2:4])
    assert dark_row[:4] + dark_row[-1:] == ["dark", "600s", "5", "600", "2024-03-09"]
    assert light_row[-1] == "2024-03-09"
    assert lines[4:] == ["  no frames skipped; make_plan shows the use of each frame"]


def test_what_is_left_out_or_cannot_be_read_is_counted_and_told(night: Path) -> None:
    shutil.copy(night / "dark-001.fit", night / "again.fit")
    fits.setval(night / "light-001.fit", "EXPTIME", value="abc")
    (night / "light-002.fit").write_bytes(b"SIMPLE  =")
    text = str(ar.open_night(night))
    assert "duplicates: 1\n" in text
    assert "problems: 1\n" in text
    assert "light-002.fit: The file is truncated: the header is incomplete" in text
    assert "?  " in text


def test_targets_that_cannot_be_reduced_are_told_by_the_plan(tmp_path: Path) -> None:
    write_frames([dark("d"), light("a"), light("b", 99.0, OBJECT="other")], tmp_path)
    text = str(ar.make_plan(ar.open_night(tmp_path)))
    assert "target other cannot be reduced" in text
    assert "dark 60s" in text


def test_html_says_the_same_as_the_text_in_a_table_without_script(night: Path) -> None:
    opened = ar.open_night(night)
    tags = parsed(opened._repr_html_())
    assert set(tags.names) == ELEMENTS
    assert tags.names.count("tr") == 3
    assert tags.attributes == []
    for word in ("Simulated_star", "600s", "120 x 160", "2024-03-09"):
        assert word in tags.text


def test_html_shows_what_headers_and_names_say_without_obeying_it(tmp_path: Path) -> None:
    folder = tmp_path / "<b onmouseover=x>"
    odd = frame("<script>alert(2)<", "<script>", OBJECT=HOSTILE)
    write_frames([odd, light("a", OBJECT=HOSTILE), dark("d")], folder)
    (folder / "<script>.fit").write_bytes(b"SIMPLE  =")
    tags = parsed(ar.open_night(folder)._repr_html_())
    assert not {"img", "script"} & set(tags.names)
    assert tags.attributes == []
    assert "<script>.fit: The file is truncated: the header is incomplete" in tags.text


def test_control_characters_of_file_names_do_not_reach_the_terminal(tmp_path: Path) -> None:
    write_frames([dark("d"), light("a")], tmp_path / "night")
    target = tmp_path / "night" / "a\x1b[31mred\n.fit"
    (tmp_path / "night" / "a.fit").rename(target)
    fits.setval(target, "OBJECT", value="")
    opened = ar.open_night(tmp_path / "night")
    text = str(opened)
    assert "\x1b" not in text + "".join(map(repr, opened.frames)) + repr(ar.make_plan(opened))
    assert not any(line.startswith(".fit") for line in text.splitlines())


def test_a_night_of_a_thousand_groups_stays_short(tmp_path: Path) -> None:
    write_frames([light(f"f{i:03}", OBJECT=f"star {i}") for i in range(60)], tmp_path)
    opened = ar.open_night(tmp_path)
    assert len(str(opened).splitlines()) < 60
    assert "... and 20 more groups" in str(opened)
    assert len(opened._repr_html_()) < 20_000


def test_a_plan_is_its_text_below_how_much_it_comprises(night: Path) -> None:
    plan = ar.make_plan(ar.open_night(night))
    lines = repr(plan).splitlines()
    assert lines[0] == "Plan: 1 master, 1 target, 0 problems"
    assert [line.strip() for line in lines[1:]] == str(plan).splitlines()


def test_frames_and_groups_are_told_in_a_line(tmp_path: Path) -> None:
    write_frames([light("a"), frame("odd", "Quux", None, OBJECT="")], tmp_path)
    opened = ar.open_night(tmp_path)
    told = [repr(frame) for frame in sorted(opened.frames, key=lambda f: f.label)]
    assert told == [
        "Frame(a: light 60 s, star, 6 x 4, 2024-03-09 20:30)",
        "Frame(odd: unknown ? s, 6 x 4, 2024-03-09 20:00)",
    ]
    groups = [repr(group) for group in opened.groups.values()]
    assert groups[0] == "Group(star: 1 frame, light, 60s, 6 x 4)"
    assert groups[1] == "Group(odd: 1 frame, unknown, unknown, 6 x 4)"


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """Return a folder with frames three and four folders deep."""
    write_frames([dark("d"), light("a")], tmp_path / "1" / "2")
    write_frames([light("b", OBJECT="deep")], tmp_path / "1" / "2" / "3")
    return tmp_path


def test_a_folder_too_deep_is_said_and_reached_with_depth(deep: Path) -> None:
    opened = ar.open_night(deep)
    too_deep = f"{deep / '1' / '2' / '3'}: lies deeper than 3 folders; not used"
    assert too_deep in ar.make_plan(opened).warnings
    assert too_deep in str(opened)
    deeper = ar.open_night(deep, depth=4)
    assert len(deeper.frames) == 3
    assert not any("deeper" in warning for warning in ar.make_plan(deeper).warnings)


def test_where_only_deeper_folders_have_frames_the_error_says_so(deep: Path) -> None:
    with pytest.raises(InputError, match="Raise depth"):
        ar.open_night(deep, depth=2)


def test_folders_without_frames_and_hidden_ones_are_not_worth_a_word(deep: Path) -> None:
    for name in ("3/notes", ".trash"):
        other = deep / "1" / "2" / name
        other.mkdir(parents=True)
        (other / "a.txt").write_text("")
    (deep / "1" / "2" / ".trash" / "a.fit").write_text("")
    assert ar.open_night(deep, depth=4).foreign == ()


def test_a_night_whose_file_makes_no_sense_is_shown_and_its_plan_raises(night: Path) -> None:
    file = ar.NightFile(targets={"Vega": TargetFile(cards={"OBJECT": "Vega"})})
    opened = ar.open_night(night, file)
    with pytest.raises(UsageError, match="Vega"):
        ar.make_plan(opened)
    assert str(opened).splitlines()[1].split() == HEADING


def test_masters_from_elsewhere_are_told_and_stand_beside_the_raw_frames(
    night: Path, tmp_path: Path
) -> None:
    library = tmp_path / "library"
    library.mkdir()
    for path in night.glob("dark*"):
        path.rename(library / path.name)
    fits.setval(library / "dark-001.fit", "NCOMBINE", value=5)
    master = ar.NightFile(masters={"dark": library / "dark-001.fit"})
    opened = ar.open_night(night, master)
    assert [leaf.path for leaf in opened.tree.leaves] == [
        "/masters/dark/600s",
        "/raw/light/Simulated_star",
    ]
    (target,) = ar.make_plan(opened).targets
    assert target.dark is not None
    assert target.dark.is_master
