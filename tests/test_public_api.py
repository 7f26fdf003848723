"""The public names, and that asking for nothing costs nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import arrayred as ar

ROOT = Path(__file__).parents[1]
HEAVY = {"dask", "xarray", "astropy", "matplotlib", "ccdproc", "zarr", "pandas", "scipy"}


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport sys; print(*(name.partition('.')[0] for name in sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
    return set(result.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("name", ar.__all__)
def test_every_public_name_exists_and_is_documented(name: str) -> None:
    assert name == "__version__" or getattr(ar, name).__doc__


def test_the_stub_is_the_list_of_names() -> None:
    stub = ast.parse(Path(ar.__file__).with_suffix(".pyi").read_text("utf-8"))
    names = {a.name for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names}
    assert set(ar.__all__) == names == set(dir(ar))


def test_the_reference_lists_every_name_and_every_figure() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    names, figures = (re.findall(r"^   (\w+)$", part, re.MULTILINE) for part in halves(page))
    assert sorted(names) == sorted({*ar.__all__} - {"plots", "__version__"})
    assert sorted(figures) == sorted(ar.plots.__all__)


def halves(page: str) -> tuple[str, str]:
    before, _, after = page.partition("## Figures")
    return before, after


def test_the_version_is_that_of_the_citation() -> None:
    assert f"\nversion: {ar.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ar.no_such_name


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert not modules_after("import arrayred") & (HEAVY | {"numpy", "click"})
