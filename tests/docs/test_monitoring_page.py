"""docs/monitoring.md names every option, column, key and metric."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from buildkit.cli import monitor, top
from buildkit.inspection.checkout_watch import build_families
from buildkit.inspection.findings_file import finding_families
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.snapshot import ContainerView, Snapshot, snapshot_as_json
from buildkit.report.top_table import TOP_COLUMNS
from tests.inspection.test_live_monitor import GPU, WatchedHost

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (top.run, {"--all", "--json", "--stream", "--interval"}),
        (monitor.run, {"--all", "--listen", "--feed", "--print", "--push", "--findings", "--service", "--most"}),
    ],
)
def test_every_option_is_explained(
    run: Callable[[Path, Sequence[str]], int], expected: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run(ROOT, ("--help",))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == expected
    assert {option for option in options if option not in PAGE} == set()


def test_every_metric_is_explained_and_every_one_that_is_explained_exists(tmp_path: Path) -> None:
    watched = WatchedHost(tmp_path)
    watched.host.gpus = (GPU,)
    builds = build_families({})
    findings = finding_families({"findings": [], "complete": True, "time": 0})
    names = {family.name for family in (*watched.state().families, *builds, *findings)}
    explained = set(re.findall(r"`((?:container|xoe)_[a-z_]+)`", PAGE.split("## Metrics")[1]))
    folded = {name for name in names if re.fullmatch("container_pressure_.*", name)}
    assert (
        names - folded | {"container_pressure_cpu_waiting_seconds_total", "xoe_monitor_state_age_seconds"} == explained
    )
    assert len(folded) == 6


def test_every_column_and_key_is_explained() -> None:
    titles = {column.title for column in TOP_COLUMNS} - {"container"}
    named = {title for row in re.findall(r"^\| ([a-z, ]+) \|", PAGE, re.MULTILINE) for title in row.split(", ")}
    assert titles == named - {"column", "key", "option", "metric"}
    empty = WatchedContainer(id="", name="", pid=1, image="", image_name="")
    document = snapshot_as_json(Snapshot(time=0.0, containers=(ContainerView(container=empty),)))
    keys = {*document, *document["containers"][0]}
    keys |= {key for part in document["containers"][0].values() if isinstance(part, dict) for key in part}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
