"""What a command lacks where an extra is not installed is said, with how to get it."""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import Call


@pytest.mark.usefixtures("night")
@pytest.mark.parametrize("wish", [("--cosmic-rays", "lacosmic"), ("--bad-pixels", "dark")])
def test_what_ccdproc_is_needed_for_says_so_where_there_is_none(
    arrayred: Call, monkeypatch: pytest.MonkeyPatch, wish: tuple[str, str]
) -> None:
    monkeypatch.setitem(sys.modules, "ccdproc", None)
    told = arrayred("reduce", "night", "-o", "out", "--no-figures", *wish)
    assert told.code == 2
    assert "ccdproc, which is not installed" in told.err
    assert "pip install 'arrayred[ccdproc]'" in told.err
