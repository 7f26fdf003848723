"""Imports point down: the table below is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import arrayred

LAYERS = {
    "errors": 0,
    "kernels": 1, "process": 1, "_version": 1, "progress": 1,
    "model": 2,
    "config": 3, "bands": 3,
    "io": 4, "steps": 4, "simulate": 4,
    "night": 5,  "plots": 5,
    "pipeline": 6, "combine_files": 6, "report": 6, "export": 6,
    "batch": 7, "explore": 7,
    "cli": 8, "__main__": 9,
}  # fmt: skip
ONLY_IN = {"astropy": {"io", "config"}, "zarr": {"io"}, "matplotlib": {"plots"}, "click": {"cli"}}
ONLY_IN |= {"rich": {"cli"}, "panel": {"explore"}, "bokeh": {"explore"}}
ONLY_IN |= {"jinja2": {"report"}}
ONLY_IN |= {"distributed": {"batch", "pipeline", "cli"}}
ROOT = Path(arrayred.__file__).parent
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def part_of(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@cache
def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def points_down(part: str, name: str) -> bool:
    """Return whether a part of the package may import a module, unless that is none of ours."""
    package, _, rest = name.partition(".")
    other = rest.partition(".")[0]
    return package != "arrayred" or not rest or other == part or LAYERS[other] < LAYERS[part]


def is_behind_its_door(part: str, name: str) -> bool:
    """Return whether a part of the package may import a module, unless it is one of ours."""
    return part in ONLY_IN.get(name.partition(".")[0], {part})


@pytest.mark.parametrize("may_import", [points_down, is_behind_its_door])
def test_imports_point_down_and_libraries_stay_behind_their_doors(
    may_import: Callable[[str, str], bool],
) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in FILES
        for name in sorted(imports_of(path))
        if not may_import(part_of(path), name)
    ]
    assert wrong == []


def test_kernels_import_numpy_alone() -> None:
    for path in (ROOT / "kernels").glob("*.py"):
        outside = {name.partition(".")[0] for name in imports_of(path)}
        assert outside <= {
            "__future__",
            "lazy_loader",
            "collections",
            "functools",
            "math",
            "numpy",
            "typing",
            "warnings",
            "arrayred",
        }


def functions_of(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Yield the functions of a module, each with its signature."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            yield f"{ast.unparse(node.args)} -> {node.returns and ast.unparse(node.returns)}", node


def test_numbers_are_not_reduced_by_xarray_or_dask() -> None:
    """What takes or returns a Dataset calls kernels; what knows plain arrays alone is one."""
    reductions = {"mean", "median", "std", "var", "quantile", "compute", "sum"}
    for path in FILES:
        if part_of(path) not in ("steps", "pipeline", "batch", "night"):
            continue
        for signature, function in functions_of(ast.parse(path.read_text("utf-8"))):
            if "xr." not in signature:
                continue
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    is_home = (path.name, function.name) == ("pipeline.py", "compute")
                    assert is_home or node.func.attr not in reductions, f"{path}:{node.lineno}"
