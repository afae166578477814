"""How a development session ends what it started."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.develop import dev_session
from buildkit.develop.dev_session import DevRequest
from buildkit.events import ignore_event
from buildkit.report.loop_view import LoopEvent
from buildkit.services.start import StartOptions
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


@pytest.mark.parametrize(("is_there", "done"), [(True, ["restart", "wait"]), (False, ["replace"])])
def test_container_that_was_removed_by_hand_is_started_anew(
    is_there: bool, done: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    environment = made()
    name = environment.services[0].name
    monkeypatch.setattr(dev_session.podman, "has_container", lambda _name: is_there)
    monkeypatch.setattr(dev_session.composed, "restart", lambda _name: asked.append("restart"))
    monkeypatch.setattr(dev_session, "wait_healthy", lambda _service, _seconds: asked.append("wait") or "")
    monkeypatch.setattr(dev_session, "replace_service", lambda *_: asked.append("replace"))
    dev_session._restart(environment, StartOptions(folder=tmp_path), ignore_event, name)
    assert asked == done
