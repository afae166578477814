"""Rates between two looks, kills, and what podman says of containers."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from buildkit.monitor.containers import parse_containers, select_project
from buildkit.monitor.rates import UsageRates, look, rates
from buildkit.monitor.usage import CgroupUsage

OLD = CgroupUsage(cpu_seconds=1.0, periods=10, throttled=0, read=0, written=100, received=5, sent=5, oom_kills=3)
NEW = CgroupUsage(cpu_seconds=2.0, periods=20, throttled=5, read=50, written=100, received=15, sent=7, oom_kills=4)


def test_rates_are_growth_by_time() -> None:
    first = look(100.0, OLD, None)
    second = look(102.0, NEW, first)
    assert rates(first, second) == UsageRates(cpu=0.5, throttled=0.5, read=25.0, written=0.0, received=5.0, sent=1.0)
    assert rates(None, first) == UsageRates()


def test_share_of_throttled_periods_is_at_most_one_and_none_without_a_period() -> None:
    """The kernel counts a period when it ends, and a throttled one in its middle."""
    first = look(100.0, OLD, None)
    more = dataclasses.replace(OLD, periods=14, throttled=5)
    assert rates(first, look(101.0, more, first)).throttled == 1.0
    assert rates(first, look(101.0, OLD, first)).throttled == 0.0


@pytest.mark.parametrize("at", [100.0, 99.0, -5.0])
def test_a_clock_that_stands_or_jumps_back_gives_no_rates(at: float) -> None:
    first = look(100.0, OLD, None)
    assert rates(first, look(at, NEW, first)) == UsageRates()


def test_counters_that_began_anew_give_no_negative_rates() -> None:
    first = look(100.0, NEW, None)
    found = rates(first, look(101.0, OLD, first))
    assert all(value is None or value >= 0 for value in dataclasses.astuple(found))
    assert found.cpu is None


def test_kills_count_since_the_first_look_also_across_a_restart() -> None:
    counts, last = [], None
    for kills in (7, 7, 9, 1, 1, 2, None):
        last = look(0.0, CgroupUsage(oom_kills=kills), last)
        counts.append(last.oom_kills)
    assert counts == [0, 0, 2, 3, 3, 4, None]


def described(**changes: Any) -> dict[str, Any]:
    state = {"Pid": 7, "Health": {"Status": "healthy"}}
    return {
        "Id": "ab" * 32,
        "Name": "app",
        "Image": "sha256:" + "cd" * 32,
        "ImageName": "localhost/p/app:latest",
        "State": state,
        "RestartCount": 2,
        "HostConfig": {"NetworkMode": "bridge"},
        **changes,
    }


def test_descriptions_of_podman_4_and_5_are_read_and_ended_containers_left_out() -> None:
    older = described(Id="ef" * 32, Name="b", State={"Pid": 8, "Healthcheck": {"Status": "starting"}})
    ended, host = described(State={"Pid": 0}), described(Name="c", HostConfig={"NetworkMode": "host"}, State={"Pid": 3})
    app, second, third = parse_containers([older, ended, described(), host])
    assert (app.name, app.pid, app.image, app.health, app.restarts, app.own_network) == (
        "app",
        7,
        "cd" * 32,
        "healthy",
        2,
        True,
    )
    assert (second.name, second.health) == ("b", "starting")
    assert (third.health, third.own_network) == ("", False)


def test_a_project_has_its_labelled_containers_and_those_of_its_images() -> None:
    label = {"Config": {"Labels": {"org.xoe.buildkit.project": "p"}}}
    other = {"Config": {"Labels": {"org.xoe.buildkit.project": "q"}}}
    found = parse_containers(
        [
            described(Name="1", ImageName="localhost/postgres", **label),
            described(Name="2"),
            described(Name="3", **other),
            described(Name="4", ImageName="localhost/else"),
        ]
    )
    assert [one.name for one in select_project(found, "p", ["localhost/p/app:latest"])] == ["1", "2"]
