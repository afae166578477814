"""docs/monitoring.md names every option, column and key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildkit.cli import top
from buildkit.monitor.containers import WatchedContainer
from buildkit.monitor.snapshot import ContainerView, Snapshot, snapshot_as_json
from buildkit.report.top_table import TOP_COLUMNS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/monitoring.md").read_text("utf-8")


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        top.run(ROOT, ("--help",))
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options == {"--all", "--json", "--stream", "--interval"}
    assert {option for option in options if option not in PAGE} == set()


def test_every_column_and_key_is_explained() -> None:
    titles = {column.title for column in TOP_COLUMNS} - {"container"}
    named = {title for row in re.findall(r"^\| ([a-z, ]+) \|", PAGE, re.MULTILINE) for title in row.split(", ")}
    assert titles == named - {"column", "key"}
    empty = WatchedContainer(id="", name="", pid=1, image="", image_name="")
    document = snapshot_as_json(Snapshot(time=0.0, containers=(ContainerView(container=empty),)))
    keys = {*document, *document["containers"][0]}
    keys |= {key for part in document["containers"][0].values() if isinstance(part, dict) for key in part}
    assert {key for key in keys if f"`{key}`" not in PAGE} == set()
