"""The context of a build of an empty project, and what it says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.build.context import BuildContext, open_context
from buildkit.declare.project import parse_project
from buildkit.events import Event


@pytest.fixture
def events() -> list[Event]:
    """The events of `context`."""
    return []


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, events: list[Event]) -> Iterator[BuildContext]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    with open_context(parse_project("", tmp_path), events.append) as opened:
        yield opened
