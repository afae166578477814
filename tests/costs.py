"""Show what the suite's time goes into, by folder and file: ``nox -s tests -- -p tests.costs`` with what to run.

Seconds of CPU are those of the worker and of the processes that it waited for: they do not depend on what else runs.
A fixture counts for the test that first needs it; containers, which podman starts apart, count for none.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Generator
from dataclasses import dataclass

import pytest

_SHOWN = 40  # files


@dataclass(slots=True)
class _Cost:
    cpu: float = 0.0
    wall: float = 0.0
    tests: int = 0


_costs: defaultdict[str, _Cost] = defaultdict(_Cost)
_before = 0.0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: object) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Note in the report what its phase has cost: a worker sends it on."""
    global _before
    report = yield
    now = _spent()
    report.cpu = now - _before  # type: ignore[attr-defined]
    _before = now
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Begin to count: what went before was importing and collecting."""
    global _before
    _before = _spent()


def _spent() -> float:
    forked = sys.modules.get("tests.e2e.forked")
    return sum(os.times()[:4]) + (sum(forked.cpu_seconds) if forked else 0.0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up the cost of a phase."""
    file = report.nodeid.partition("::")[0]
    for name in (file.rpartition("/")[0] + "/", file):
        cost = _costs[name]
        cost.cpu += report.cpu  # type: ignore[attr-defined]
        cost.wall += report.duration
        cost.tests += report.when == "call"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print folders and files, the dearest first."""
    dearest = sorted(_costs.items(), key=lambda pair: -pair[1].cpu)
    folders = [pair for pair in dearest if pair[0].endswith("/")]
    files = [pair for pair in dearest if not pair[0].endswith("/")][:_SHOWN]
    terminalreporter.section("cost")
    terminalreporter.line("    cpu s    wall s   tests")
    for name, cost in (*folders, *files):
        terminalreporter.line(f"{cost.cpu:9.1f} {cost.wall:9.1f} {cost.tests:7}  {name}")
