"""Results are kept whole, and pages are made from them alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import publish as publishing
from benchmarks.__main__ import main
from benchmarks.measure import Result
from benchmarks.plots import plots
from benchmarks.publish import BEGIN, END, PAGE, ROOT, between_markers, publish, publish_section
from benchmarks.results import Report, machine
from benchmarks.tables import page, section


def test_a_report_comes_back_as_it_was(report: Report, results_file: Path) -> None:
    assert Report.load(results_file) == report


def test_what_is_no_number_is_no_number_in_json(report: Report, tmp_path: Path) -> None:
    report.results = [replace(report.results[0], verdict="differs", largest=float("inf"))]
    report.save(tmp_path / "results.json")
    facts = json.loads((tmp_path / "results.json").read_text(), parse_constant=pytest.fail)
    assert facts["results"][0]["largest"] is None
    assert "not a number" in page(Report.load(tmp_path / "results.json"), [])


def test_the_machine_is_described() -> None:
    found = machine()
    assert found["cores"] >= 1
    assert found["memory_gib"] > 0.1
    assert found["cpu"]


def test_the_section_tells_medians_of_runs(report: Report) -> None:
    rows = section(report).splitlines()
    ours = next(row for row in rows if row.startswith("| arrayred combine |"))
    assert ours == "| arrayred combine | 0.200 | 0.200 | 0.200 |"
    assert any("2 cores of a chip, 24 GiB" in row for row in rows)


def test_the_ratio_is_to_the_fastest_rival_with_the_same_numbers(report: Report) -> None:
    text = section(report)
    assert "| arrayred combine / fastest rival with the same numbers | 0.40 x numpy |" in text
    assert r"| arrayred combine / fastest rival | 2.00 x Siril\* |" in text


def test_a_handful_of_pixels_on_a_limit_makes_no_other_numbers(report: Report) -> None:
    report.results[2].fraction = 5e-6
    assert "rival with the same numbers | 2.00 x Siril | 0.40 x numpy |" in section(report)


def test_wrong_numbers_are_no_rival(report: Report) -> None:
    report.results[2].note = None
    assert "| arrayred combine / fastest rival | 0.40 x numpy |" in section(report)


def test_other_numbers_get_a_star_and_a_reason(report: Report) -> None:
    text = page(report, [])
    assert r"| Siril | 0.100\* |" in text
    assert "| Siril | 0.5, 25 % |" in text
    assert "- Siril: it rounds." in text


def test_failures_and_wrong_numbers_are_shown(report: Report) -> None:
    report.results[0].error = "ended with code 1: oh"
    report.results[2].note = None
    text = page(report, [])
    assert "| arrayred combine | failed | 0.200 |" in text
    assert "- arrayred combine failed at median of s25: ended with code 1: oh" in text
    assert "| Siril | wrong |" in text


def test_missing_contenders_are_named_with_their_remedy(report: Report) -> None:
    assert "- IRAF: missing (irafcl); `apt-get install iraf`" in page(report, [])


def test_memory_is_told_with_what_lies_above_the_imports(report: Report) -> None:
    assert "| arrayred combine | 100 (70) |" in page(report, [])


def test_plots_depend_on_the_numbers_alone_and_show_every_stack(report: Report) -> None:
    first, again = plots(report), plots(report)
    assert list(first) == ["median.svg", "frames.svg"]
    assert first == again
    report.results[0].seconds = [0.3]
    assert plots(report)["median.svg"] != first["median.svg"]
    text = first["median.svg"][1].decode()
    assert "<dc:date>" not in text
    assert text.count("seconds, from start to end of the process") == 3
    assert text.count("median of ") == 3
    assert text.count('id="axes_') == 3


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be drawn where only the texts are looked at."""
    drawn = {"median.svg": ("Median", b""), "frames.svg": ("Frames", b"")}
    monkeypatch.setattr(publishing, "plots", lambda _: drawn)


@pytest.mark.usefixtures("undrawn")
def test_publishing_fills_the_markers_and_nothing_else(report: Report, tmp_path: Path) -> None:
    shown = tmp_path / PAGE
    shown.parent.mkdir()
    shown.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    written = publish(report, tmp_path)
    text = shown.read_text()
    assert text.startswith(f"above\n{BEGIN}\n\nWhole processes")
    assert text.endswith(f"\n\n{END}\nbelow\n")
    assert {path.name for path in written} == {"README.md", "speed.md", "median.svg", "frames.svg"}
    publish(report, tmp_path)
    assert shown.read_text() == text


def test_a_page_without_markers_is_not_changed(report: Report, tmp_path: Path) -> None:
    shown = tmp_path / PAGE
    shown.parent.mkdir()
    shown.write_text("mine\n")
    publish(report, tmp_path)
    assert shown.read_text() == "mine\n"
    assert "![Median" in (tmp_path / "benchmarks" / "README.md").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_section_stays_where_it_is_when_the_page_is_written_anew(
    report: Report, tmp_path: Path
) -> None:
    (tmp_path / "benchmarks").mkdir()
    path = publish_section("nights", "## Many nights\n\nold", tmp_path)
    publish(report, tmp_path)
    publish_section("nights", "## Many nights\n\nnew", tmp_path)
    text = path.read_text()
    publish(report, tmp_path)
    assert path.read_text() == text
    assert text.count("## Many nights") == text.count("## Median") == 1
    assert "new" in text
    assert "old" not in text


@pytest.mark.usefixtures("undrawn")
def test_noise_and_flags_by_themselves_leave_the_rest_of_the_page(
    report: Report, tmp_path: Path
) -> None:
    publish(report, tmp_path)
    one = Result("planes", "l25", "steps", "median", "arrayred", seconds=[2.0], cpu_seconds=[3.0])
    planes = Report(report.machine, results=[one])
    written = [publish(planes, tmp_path) for _ in range(2)]
    text = (tmp_path / "benchmarks" / "README.md").read_text()
    assert written == [[tmp_path / "benchmarks" / "README.md"]] * 2
    assert text.count("## What noise and flags cost") == text.count("## Median") == 1


@pytest.mark.parametrize("text", [BEGIN, f"{END}{BEGIN}", f"{BEGIN}{BEGIN}{END}", ""])
def test_markers_out_of_order_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        between_markers(text, "new")


def test_the_page_of_speed_is_the_one_written_from_the_results() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    report = Report.load(ROOT / "benchmarks" / "results.json")
    assert between_markers(text, section(report)) == text


def test_results_are_shown_without_measuring(
    results_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--load", str(results_file)]) == 0
    assert "## Do they compute the same?" in capsys.readouterr().out


def test_wrong_numbers_are_a_failure(report: Report, results_file: Path) -> None:
    report.results[2].note = None
    report.save(results_file)
    assert main(["--load", str(results_file)]) == 1
