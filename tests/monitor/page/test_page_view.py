"""What the page shows of containers: order, limits and attention."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from buildkit.monitor.page.view import MOST_CONTAINERS, find_attention, view_snapshot
from buildkit.monitor.rates import UsageRates
from buildkit.monitor.snapshot import Snapshot
from tests.monitor.page.samples import make_snapshot, make_view


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"oom_kills": 1}, ["oom"]),
        ({"health": "unhealthy"}, ["health"]),
        ({"health": ""}, []),
        ({"usage": None}, ["gone"]),
        ({"memory": 901}, ["memory"]),
        ({"rates": UsageRates(throttled=0.06)}, ["throttled"]),
        ({"expected": False}, ["image"]),
        ({"expected": None}, []),
        ({"oom_kills": 1, "health": "unhealthy", "expected": False}, ["oom", "health", "image"]),
    ],
)
def test_attention_is_what_somebody_should_look_at(changes: dict[str, Any], words: list[str]) -> None:
    assert find_attention(make_view("app", **changes)) == words


def test_of_a_thousand_containers_those_that_need_attention_and_the_busiest_are_sent() -> None:
    views = [make_view(f"c{number}", cpu=number / 1000) for number in range(1000)]
    views[3] = replace(views[3], oom_kills=1)
    sent = view_snapshot(Snapshot(time=5.0, containers=tuple(views), gpu_problems=("GPU 0: lost",)))
    names = [one["name"] for one in sent["containers"]]
    assert names == ["c3", *(f"c{number}" for number in range(999, 1000 - MOST_CONTAINERS, -1))]
    assert (sent["total"], sent["attention"], sent["time"], sent["gpu_problems"]) == (1000, 1, 5.0, ["GPU 0: lost"])


def test_sample_names_each_trouble_once() -> None:
    shown = view_snapshot(make_snapshot(1.0))["containers"]
    assert [(one["name"], one["attention"]) for one in shown][:2] == [
        ("worker", ["oom", "memory", "throttled"]),
        ("app-candidate", ["health", "image"]),
    ]
