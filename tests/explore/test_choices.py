"""What is chosen on the page is saved in the night file, and reduced by the command itself."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from arrayred.cli import cli
from arrayred.cli.options import Options, settle_settings
from arrayred.config import read_night_file
from arrayred.errors import ArrayredError, NoDarkError, UsageError
from arrayred.explore import ExplorerModel, View
from arrayred.explore.data import Choices, ReduceCommand
from arrayred.night import open_night

STAR = View("light/Simulated_star")
BY_HAND = replace(STAR, rows=(80, 90), sky_rows=(110, 130))
WRITTEN = """# Notes of the night
[recipe]
n_sigma = 3.5  # faint

[targets."Simulated star"]  # named as in the headers
object = "sim"
rows = [
  1, 20
]  # wrong
"""


def command_for(
    out: Path, options: Options | None = None, file: Path | None = None
) -> ReduceCommand:
    options = options or {}
    return ReduceCommand(out, file or out / "night.toml", partial(settle_settings, options))


def choices_for(night: Path, out: Path, **given: object) -> Choices:
    return Choices(open_night(night), command_for(out, **given))  # type: ignore[arg-type]


def products(out: Path) -> dict[str, bytes]:
    there = (out / "targets").rglob("*")
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in there if path.is_file()}


def test_reduce_is_the_command_with_the_saved_night_file(night: Path, tmp_path: Path) -> None:
    printed: list[str] = []
    choices = choices_for(night, tmp_path / "page")
    code, last = choices.reduce(BY_HAND, printed.append)
    assert code == 0, printed
    assert last == f"Report: {tmp_path / 'page' / 'report.html'}"
    assert any(line.startswith("1 target reduced, 0 failed") for line in printed)
    assert any("Simulated_star: combine" in line for line in printed)
    words = [
        "reduce",
        night,
        "-o",
        tmp_path / "command",
        "--night-file",
        tmp_path / "page" / "night.toml",
    ]
    cli.main([*map(str, words), "-q"], standalone_mode=False)
    assert len(products(tmp_path / "page")) > 4
    assert products(tmp_path / "page") == products(tmp_path / "command")


def test_what_is_reduced_is_what_was_shown(night: Path, tmp_path: Path) -> None:
    import arrayred as ar

    out = tmp_path / "out"
    model = ExplorerModel(open_night(night), command=command_for(out))
    assert model.choices is not None
    model.choices.reduce(BY_HAND, list[str]().append)
    written = ar.open_product(out / "targets/Simulated_star/Simulated_star_spectrum.fits")
    assert (written.flux == model.spectrum(BY_HAND).flux).all()


def test_other_rows_need_to_overwrite_as_on_the_terminal(night: Path, tmp_path: Path) -> None:
    printed: list[str] = []
    choices = choices_for(night, tmp_path)
    assert choices.reduce(BY_HAND, printed.append)[0] == 0
    other = replace(STAR, rows=(79, 91))
    code, _ = choices.reduce(other, printed.append)
    assert code == UsageError.exit_code
    assert "--overwrite" in "".join(printed)
    assert choices.reduce(other, printed.append, overwrite=True)[0] == 0


def test_errors_are_those_of_the_terminal(night: Path, tmp_path: Path) -> None:
    for path in night.glob("dark-*.fit"):
        path.unlink()
    printed: list[str] = []
    code, last = choices_for(night, tmp_path).reduce(BY_HAND, printed.append)
    assert code == NoDarkError.exit_code
    assert last.startswith("arrayred: error: No dark frames found.")


def test_all_else_in_a_night_file_stays(night: Path, tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text(WRITTEN)
    night_file = read_night_file(file)
    choices = choices_for(night, tmp_path)
    assert choices.save(BY_HAND) == file
    assert file.read_text() == WRITTEN.replace("rows = [\n  1, 20\n]", "rows = [80, 90]").replace(
        "object", "sky_rows = [110, 130]\nobject"
    )
    assert read_night_file(file).recipe == night_file.recipe
    choices.save(STAR)
    assert file.read_text() == WRITTEN


def test_rows_of_another_target_become_a_comment(night: Path, tmp_path: Path) -> None:
    file = tmp_path / "night.toml"
    file.write_text('[targets.Simulated_star]\nrows_from = "B"  # why\n')
    choices_for(night, tmp_path).save(BY_HAND)
    told = '# rows_from = "B"  # why\n'
    rows = "rows = [80, 90]\nsky_rows = [110, 130]\n"
    assert file.read_text() == f"[targets.Simulated_star]\n{rows}{told}"


def test_a_night_file_that_is_named_is_written_through_its_link(
    night: Path, tmp_path: Path
) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "link.toml"
    real.write_bytes(b"# mine\r\n")
    link.symlink_to(real)
    choices_for(night, tmp_path / "out", file=link).save(BY_HAND)
    assert link.is_symlink()
    assert real.read_bytes().startswith(b'# mine\r\n\r\n[targets."Simulated_star"]\r\nrows = [80')
    assert not (tmp_path / "out").exists()


def test_a_night_file_that_was_changed_meanwhile_is_not_written(
    night: Path, tmp_path: Path
) -> None:
    choices = choices_for(night, tmp_path)
    file = choices.save(BY_HAND)
    file.write_text(file.read_text() + "# mine\n")
    with pytest.raises(UsageError, match="was changed since"):
        choices.save(STAR)
    assert file.read_text().endswith("# mine\n")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[targets]\nSimulated_star = {rows = [1, 20]}\n", "cannot be edited"),
        ("targets.Simulated_star.rows = [1, 20]\n", "cannot be edited"),
        ("[targets.Simulated_star]\nrows = [1,  # first\n20]\n", "cannot be edited"),
        ("[recipe]\nnear_row = 85\n", "near_row chooses among detected spectra"),
        ("[targets\n", "not TOML"),
    ],
)
def test_a_night_file_that_cannot_be_edited_is_left_alone(
    text: str, why: str, night: Path, tmp_path: Path
) -> None:
    file = tmp_path / "night.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=why) as refused:
        choices_for(night, tmp_path).save(BY_HAND)
    assert str(file) in str(refused.value)
    assert file.read_text() == text


@pytest.mark.parametrize(
    "options", [{"reference": True}, {"rows": (1, 20)}, {"sky_rows": (1, 20)}], ids=str
)
def test_rows_that_options_override_are_not_saved(
    options: Options, night: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="override"):
        choices_for(night, tmp_path, options=options).save(BY_HAND)
    assert not (tmp_path / "night.toml").exists()


def test_logs_products_and_darks_are_refused_in_a_sentence(night: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("frames, object\nlight-001, a\n")
    with pytest.raises(UsageError, match="observing log"):
        choices_for(night, tmp_path, file=log).save(BY_HAND)
    choices = choices_for(night, tmp_path / "out")
    with pytest.raises(UsageError, match="A dark has no rows"):
        choices.save(View("dark/600s"))
    choices.reduce(BY_HAND, list[str]().append)
    with pytest.raises(UsageError, match="these are products"):
        choices_for(tmp_path / "out", tmp_path / "other").save(View("combined/Simulated_star"))


def test_a_folder_that_cannot_be_written_is_an_error(night: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ArrayredError, match="cannot be written"):
        choices_for(night, tmp_path / "out").save(BY_HAND)
