"""What is borrowed from ccdproc is missed by name where it is not installed."""

from __future__ import annotations

import sys

import ccdproc
import pytest

from arrayred.errors import UsageError
from arrayred.steps import import_ccdproc


def test_the_module_is_ccdproc_itself() -> None:
    assert import_ccdproc("L.A.Cosmic") is ccdproc


def test_what_needs_it_is_told_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ccdproc", None)
    with pytest.raises(UsageError, match="needs ccdproc, which is not") as told:
        import_ccdproc("L.A.Cosmic")
    assert "arrayred[ccdproc]" in told.value.hint
