"""`observe` of a project with several environments: what runs tells which one is watched."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from buildkit.cli import observe

ROOT = Path(__file__).parents[2]  # its services.toml has three environments


class WhatRuns:
    """podman with Prometheus in networks, or without it; ``watched`` is what the session then looks up."""

    def __init__(self, networks: tuple[str, ...] | None, patch: pytest.MonkeyPatch) -> None:
        self.watched = ""
        settings = {"NetworkSettings": {"Networks": {name: {} for name in networks or ()}}}
        patch.setattr(observe.podman, "has_container", lambda name: self.knows(name) and networks is not None)
        patch.setattr(observe.podman, "inspect_container", lambda name: settings if self.knows(name) else {})
        patch.setattr(observe, "_load_watched", self.look_up)

    def knows(self, name: str) -> bool:
        assert name == "xoe-observe-prometheus"
        return True

    def look_up(self, _planner: object, name: str, **_: object) -> None:
        self.watched = name
        raise InterruptedError


@pytest.mark.parametrize(
    ("networks", "words", "watched"),
    [
        (("xoe-observe", "xoe-production"), {"down": True}, "production"),
        (("xoe-observe", "xoe-production"), {"status": True}, "production"),
        (("xoe-observe", "xoe-production"), {"down": True, "environment": "dev"}, "dev"),
        (None, {"down": True}, "complete"),
        (("xoe-observe", "xoe-production"), {}, ""),  # a start has to be told
    ],
)
def test_environment_that_is_watched_is_that_of_the_running_prometheus(
    networks: tuple[str, ...] | None,
    words: dict[str, object],
    watched: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path))
    runs = WhatRuns(networks, monkeypatch)
    options = {"environment": "", "down": False, "status": False, "arg": (), "format": "", **words}
    with pytest.raises(InterruptedError):
        observe._load_stack(ROOT, tmp_path, Namespace(**options))
    assert runs.watched == watched
