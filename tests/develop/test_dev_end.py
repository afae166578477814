"""How a development session ends what it started."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.develop import dev_session
from buildkit.develop.dev_session import DevRequest
from buildkit.events import ignore_event
from buildkit.report.loop_view import LoopEvent
from tests.running.test_environment import made


def test_what_was_started_ends_also_if_nobody_hears_that(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def tell(_event: LoopEvent) -> None:
        raise BrokenPipeError

    def never(_stages: object) -> None:
        raise AssertionError("nothing is built")

    ended: list[object] = []
    monkeypatch.setattr(dev_session, "stop_environment", lambda environment, _emit: ended.append(environment))
    request, environment = DevRequest(folder=tmp_path, build=never, warm=never), made()
    with pytest.raises(BrokenPipeError), dev_session._ending(request, environment, tmp_path, tell, ignore_event):
        raise KeyboardInterrupt
    assert ended == [environment]
