"""What a running environment does about saves, and how it reports what the reloader says."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from buildkit.declare.stage import Running
from buildkit.develop.dev_loop import DevActions, DevLoop, DevService
from buildkit.develop.reload_client import ReloadClient
from buildkit.develop.stage_trees import StageTrees
from buildkit.develop.staging import StagedFile, StagedFolder, Staging
from buildkit.digest import FileHash
from buildkit.errors import BuildError
from buildkit.report.loop_view import LoopEvent, Reacted, Said, render_json, render_loop_event
from buildkit.running.environment import RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.running.watch_rules import Action, WatchRule


class Client:
    """A reloader that is connected or not."""

    def __init__(self, *, connected: bool) -> None:
        self.connected = connected
        self.told: list[list[str]] = []

    def changed(self, paths: list[str], at: float) -> bool:
        assert time.time() - at < 60
        self.told.append(list(paths))
        return self.connected


class Scene:
    """A loop over two files of a stage, with what it did and said."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: queue.SimpleQueue[LoopEvent] = queue.SimpleQueue()
        self.restarted: list[str] = []
        self.error: BuildError | None = None
        files = {name: self.write(name, "one") for name in ("api.py", "main.py")}
        staging = Staging(folders=(StagedFolder(target="/app", files=files),), base="base")
        trees = {"development": StageTrees(folder, folder / "home", staging)}
        container = ContainerSpec(image="i", name="n", running=Running())
        self.service = DevService(running=RunningService(name="app", container=container), stage="development")
        actions = DevActions(build=self.never, replace=self.never, restart=self.restart, check_services=self.check)
        self.loop = DevLoop(folder, [self.service], trees, actions, self.said.put)

    def write(self, name: str, text: str) -> StagedFile:
        (self.folder / "app").mkdir(exist_ok=True)
        (self.folder / "app" / name).write_text(text)
        return StagedFile(source=f"app/{name}", content=FileHash.of(text.encode()).hex)

    def never(self, *_words: object) -> None:
        raise AssertionError("nothing is built")

    def check(self) -> None:
        if self.error:
            raise self.error

    def restart(self, name: str) -> None:
        if self.error:
            raise self.error
        self.restarted.append(name)

    def hear(self, **event: Any) -> LoopEvent:
        self.loop.hear(self.service, event)
        return self.said.get(timeout=60)

    def connect(self, *, connected: bool) -> Client:
        client = Client(connected=connected)
        self.service.client = cast("ReloadClient", client)
        return client


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.loop.close()


def test_save_is_told_to_the_reloader_once_the_file_is_in_place(scene: Scene) -> None:
    client = scene.connect(connected=True)
    scene.write("api.py", "two")
    scene.loop.handle(frozenset(["app/api.py", "app/.api.py.swp", "app/main.py"]))
    assert client.told == [["/app/api.py"]], "main.py is as it was"
    assert scene.said.empty()
    reacted = scene.hear(event="reloaded", file="/app/api.py", files=1, ms=61, generation=2, how="fork", at=5.0)
    assert reacted == Reacted(service="app", files=("app/api.py",), action="reloaded", what="reloaded", seconds=0.061)


def test_save_without_a_change_is_none(scene: Scene) -> None:
    client = scene.connect(connected=True)
    scene.loop.handle(frozenset(["app/api.py"]))
    assert client.told == []


@pytest.mark.parametrize("connected", [False, None])
def test_service_is_restarted_where_no_reloader_answers(scene: Scene, connected: bool | None) -> None:
    if connected is not None:
        scene.connect(connected=connected)
    scene.write("api.py", "two")
    scene.loop.handle(frozenset(["app/api.py"]))
    reacted = scene.said.get(timeout=60)
    assert isinstance(reacted, Reacted)
    assert (reacted.what, reacted.files, scene.restarted) == ("restarted", ("app/api.py",), ["app"])


@pytest.mark.parametrize("error", [None, BuildError("it has changed", hint="Ctrl-C")])
def test_change_of_services_that_asks_for_something_else_is_said(
    scene: Scene, error: BuildError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.error = error
    monkeypatch.setattr(scene.loop, "_compose", lambda _paths: {})
    scene.loop.handle(frozenset({"services.toml"}))
    if error is None:
        assert scene.said.empty()
    else:
        assert cast("Reacted", scene.said.get(timeout=10)).what == "it has changed (Ctrl-C)"


def test_service_that_holds_the_users_work_goes_on(scene: Scene) -> None:
    """Its kernels see the new file, and are restarted by who uses them."""
    scene.service.holds_work = True
    scene.write("api.py", "two")
    scene.loop.handle(frozenset(["app/api.py"]))
    assert scene.service.restarts is None, "none was asked for"


def test_failed_restart_is_reported_with_the_output(scene: Scene) -> None:
    scene.error = BuildError("app ended with exit code 7", hint="look", output="Traceback")
    scene.write("api.py", "two")
    scene.loop.handle(frozenset(["app/api.py"]))
    reacted = scene.said.get(timeout=60)
    assert isinstance(reacted, Reacted)
    assert (reacted.ok, reacted.what, reacted.output) == (False, "app ended with exit code 7 (look)", "Traceback")


def test_rule_of_the_user_comes_first(scene: Scene) -> None:
    client = scene.connect(connected=True)
    scene.service.rules = (WatchRule(service="app", path="app/main.py", action=Action.RESTART),)
    scene.write("main.py", "two")
    scene.loop.handle(frozenset(["app/main.py"]))
    reacted = scene.said.get(timeout=60)
    assert isinstance(reacted, Reacted)
    assert (reacted.action, client.told, scene.restarted) == ("restart", [], ["app"])


def test_error_says_which_code_still_answers(scene: Scene) -> None:
    scene.loop.hear(scene.service, {"event": "listening", "generation": 1, "at": 43200.0})
    error = scene.hear(
        event="error", file="/app/api.py", files=2, line=3, message="invalid syntax", text="Traceback …", serving=1
    )
    clock = time.strftime("%H:%M:%S", time.localtime(43200))
    assert isinstance(error, Reacted)
    assert error.what == f"line 3: invalid syntax; the code of {clock} still answers"
    assert (error.files, error.ok, error.output) == (("app/api.py",), False, "Traceback …")
    nothing = scene.hear(event="error", message="no port", serving=None)
    assert isinstance(nothing, Reacted)
    assert nothing.what == "no port; nothing answers until it is mended"


def test_end_and_debugger_are_reported(scene: Scene) -> None:
    assert scene.hear(event="exited", code=3) == Said(
        event="exited", text="app: the application ended with exit code 3"
    )
    assert scene.hear(event="debugger", state="attached") == Said(event="debugger", text="app: debugger attached")


def test_lines_and_json_of_events() -> None:
    reacted = Reacted(
        service="app",
        files=("a.py", "b.py", "c.py"),
        action="reload",
        what="reloaded",
        seconds=0.0844,
        output="x\x1b[1m",
    )
    clock = time.strftime("%H:%M:%S", time.localtime(0))
    assert render_loop_event(reacted, 0) == f"{clock}  a.py and 2 more  reloaded in 84 ms\n  | x\n"
    assert render_json(reacted, 1.23456) == {
        "event": "reacted", "at": 1.235, "service": "app", "files": ["a.py", "b.py", "c.py"], "action": "reload",
        "ok": True, "text": "reloaded", "milliseconds": 84, "output": "x\x1b[1m",
    }  # fmt: skip
    said = Said(event="service", text="app is healthy", details=(("state", "healthy"),))
    assert render_json(said, 0) == {"event": "service", "at": 0, "text": "app is healthy", "state": "healthy"}
    assert render_loop_event(Said(event="warning", text="odd"), 0) == "warning: odd\n"
