"""The log beside the products, as the command line leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from arrayred.io import LOG_FILE
from tests.cli.conftest import Call


def of_kind(event: str) -> list[dict[str, Any]]:
    lines = map(json.loads, Path("out", LOG_FILE).read_text("ascii").splitlines())
    return [told for told in lines if told["event"] == event]


@pytest.mark.usefixtures("night")
def test_each_run_is_logged_and_verify_passes_the_log_by(arrayred: Call) -> None:
    for _ in range(2):
        assert arrayred("reduce", "night", "-o", "out", "--no-figures", "-q").code == 0
    assert [told["status"] for told in of_kind("target")] == ["reduced", "kept"]
    assert all("reduce night -o out" in told["command"] for told in of_kind("run"))
    told = arrayred("verify", "out")
    assert told.code == 0
    assert LOG_FILE not in told.out
    assert "the log of the runs" in arrayred("verify", Path("out", LOG_FILE)).err
