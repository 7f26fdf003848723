"""The plan of many nights: each resource is as busy as its share says, and the busiest decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.nights import simulated_nights
from benchmarks.plan import Night, Site, Took, cost_of, forecast, most_workers, page

NIGHT = Night(seconds=0.5, read=40_000_000, written=10_000_000, calls=100, sent=3_000)
SITE = Site(tasks=1_000.0, efficiency=0.8, bandwidth=1e9, calls=10_000.0, network=1e8)


def test_each_resource_is_busy_with_its_own_share() -> None:
    plan = forecast(NIGHT, SITE, 10_000, 100)
    assert plan.busy == pytest.approx(
        {
            "processors": 5_000 / 80,
            "scheduler": 10.0,
            "network": 0.3,
            "disk: bytes": 500.0,
            "disk: calls": 100.0,
        }
    )
    assert (plan.seconds, plan.limit) == (pytest.approx(500.0), "disk: bytes")


def test_one_worker_loses_nothing_to_others() -> None:
    assert forecast(NIGHT, SITE, 10, 1).busy["processors"] == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("site", "limit"),
    [
        (Site(tasks=1.0), "scheduler"),
        (Site(tasks=1e6, calls=1.0), "disk: calls"),
        (Site(tasks=1e6, network=1.0), "network"),
        (Site(tasks=1e6, bandwidth=1e12, calls=1e9), "processors"),
    ],
)
def test_the_busiest_resource_is_the_limit(site: Site, limit: str) -> None:
    assert forecast(NIGHT, site, 100, 4).limit == limit


def test_workers_are_of_use_until_the_next_resource_is_as_busy() -> None:
    n_most, limit = most_workers(NIGHT, SITE)
    assert forecast(NIGHT, SITE, 10_000, n_most).limit == "processors"
    assert forecast(NIGHT, SITE, 10_000, n_most + 1).limit == limit == "disk: bytes"


def test_the_page_tells_what_is_measured_and_what_is_assumed() -> None:
    text = "\n".join(page(NIGHT, SITE, {1: Took(0.5, 0.4), 2: Took(0.3, 0.5)}))
    assert "1 worker(s): a night each 0.500 s, of processors 0.400 s;" in text
    assert "Assumed: a shared disk of 1000 MB/s and 10000 calls/s" in text
    assert "| 10000 | 100 | 62 | 10 | 0 | 500 | 100 | 8.3 min | disk: bytes |" in text


def test_a_nights_cost_is_that_of_its_files(tmp_path: Path) -> None:
    nights = simulated_nights(tmp_path / "nights", 3, (160, 120))
    cost = cost_of(nights, tmp_path / "out")
    frames = sum(path.stat().st_size for path in nights[0].iterdir())
    assert cost.read == frames
    assert cost.written > 160 * 120 * 4
    assert 20 < cost.calls < 2_000
    assert 0 < cost.seconds < 60
    assert 500 < cost.sent < 20_000
