"""Whatever headers and file names hold, a page shows it as text: cases 95, 96, 99."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path

import pytest

from arrayred.errors import UsageError
from arrayred.io import PAGE, Ledger, write_frames
from arrayred.night import slug
from arrayred.report import (
    Account,
    Finished,
    FrameLine,
    Markup,
    TargetLine,
    anchor,
    night_page,
    page,
    path_below,
    read_account,
    tag,
)
from arrayred.simulate import SimulatedNight, Star
from tests.batch.disturbed import DETECTOR, write_night
from tests.report.conftest import reduced
from tests.report.pages import all_of, read, require_harmless, text_of

HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(1)</script>",
    "</style><b>",
    "</title></td></table>",
    '"onmouseover="alert(1)',
    "'autofocus onfocus='alert(1)",
    "javascript:alert(1)",
    "{{7*7}}",
    "$(id)",
    "&lt;b&gt;&#60;i&#62;",
    "<!-- -->]]><svg/onload=alert(1)>",
    "../../etc/x",
    "a\x1b[31mred\x00\r\nb",
    "\u202eright to left\u2066",
    "\ud800 half a pair",
    "http://example.org/x.js",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_hostile_text_is_text_wherever_it_stands(tmp_path: Path, text: str) -> None:
    moment = datetime(2024, 3, 9, 20).isoformat()
    frame = FrameLine(
        text, "/no/" + text.replace("\0", ""), text, 600.0, moment, text, None, text, (2, 3),
        text, text, (text,), False,
    )  # fmt: skip
    target = TargetLine(slug(text), 1, 600.0, (), (text,), text, None, {text: text})
    account = Account(
        (frame,), (target,), ((text, text),), (text,), text, {text: text}, {text: text}
    )
    made = night_page(Finished(tmp_path, account, {}, {}))
    tree = read(made.content)
    require_harmless(tree)
    assert not all_of(tree, "script")
    assert "49" not in text_of(tree).replace("2024", "")
    assert all(c.isprintable() or c == "\n" for c in made.content.decode())


@pytest.mark.parametrize("text", HOSTILE)
def test_an_account_gives_hostile_texts_back_or_escaped(tmp_path: Path, text: str) -> None:
    account = Account((), (TargetLine("a", remarks=(text,)),), warnings=(text,))
    Ledger(tmp_path).close_run(asdict(account), {})
    assert read_account(Ledger(tmp_path)) == account


@pytest.mark.parametrize("name", HOSTILE[:6:2])
def test_an_object_of_markup_makes_no_element(tmp_path: Path, name: str) -> None:
    night = SimulatedNight(DETECTOR, Star(name, flux=0.0), n_darks=1, n_lights=1)
    for frame in night.frames():
        cards = {**frame.cards, "OBSERVER": name, "NOTES": name, "FILTER": name}
        write_frames([replace(frame, cards=cards)], tmp_path / "night")
    tree = read(reduced(tmp_path / "night", tmp_path / "out") / PAGE)
    require_harmless(tree)
    assert name.split()[0] in text_of(tree)


def test_file_names_of_markup_make_no_element(tmp_path: Path) -> None:
    night = write_night(tmp_path / "night")
    for path in list(night.iterdir()):
        path.rename(night / f"<img onerror=alert(1)>\x1b\u202e{path.name}")
    content = (reduced(night, tmp_path / "out") / PAGE).read_bytes()
    require_harmless(read(content))
    assert b"&lt;img onerror=alert(1)&gt;\\x1b\\u202e" in content
    assert b"\x1b" not in content


@pytest.mark.parametrize(
    "link", ["javascript:alert(1)", "http://a.b/c", "//a.b/c", "/etc/x", "a?b"]
)
def test_a_link_that_leads_out_of_the_page_is_refused(link: str) -> None:
    with pytest.raises(ValueError, match="leads out of the page"):
        tag("a", "x", attributes={"href": link})


def test_a_picture_from_elsewhere_is_refused() -> None:
    with pytest.raises(ValueError, match="part of the page"):
        tag("img", attributes={"src": "data:image/svg+xml;base64,AAAA"})


@pytest.mark.parametrize("name", ["../x", "a/b", ".hidden", "a\0b", "\ud800", 3])
def test_an_account_whose_target_is_no_folder_of_ours_is_refused(
    tmp_path: Path, name: object
) -> None:
    told = asdict(Account((), (TargetLine("good"),)))
    told["targets"][0]["name"] = name
    Ledger(tmp_path).close_run(told, {})
    with pytest.raises(UsageError, match="makes no sense"):
        read_account(Ledger(tmp_path))


@pytest.mark.parametrize("name", HOSTILE)
def test_links_of_hostile_names_stay_below_the_page(name: str) -> None:
    plain = name.encode("utf-8", "replace").decode()
    assert tag("a", "x", attributes={"href": anchor(plain)})
    assert tag("a", "x", attributes={"href": path_below("targets", plain)})


def test_text_beside_markup_is_escaped_once_and_markup_is_not() -> None:
    inside = tag("b", "a & b")
    assert tag("p", "<i>", inside, [inside]) == "<p>&lt;i&gt;<b>a &amp; b</b><b>a &amp; b</b></p>"
    assert isinstance(inside, Markup)


def test_the_title_of_a_page_is_escaped() -> None:
    tree = read(page("</title><script>alert(1)</script>", "x"))
    require_harmless(tree)
