"""Containers that end while an environment is developed, as processes of this host."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from buildkit.develop import end_watch
from buildkit.develop.end_watch import EndWatch
from buildkit.errors import ToolError
from buildkit.report.loop_view import LoopEvent, Said
from buildkit.tools.podman_objects import FoundContainer
from tests.running.test_environment import made
from tests.waiting import wait_until

ENVIRONMENT = made()
SERVICES = [service for service in ENVIRONMENT.services if service.name not in ENVIRONMENT.jobs]  # one has ended well
NAMES = [service.container.name for service in SERVICES]


@dataclass
class Host:
    """podman with a container for each service; ``said`` is what was told."""

    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    said: list[LoopEvent] = field(default_factory=list)
    asked: int = 0
    late: int = 0

    def start(self, name: str) -> None:
        self.children[name] = subprocess.Popen(("sleep", "1000"))

    def kill(self, name: str) -> None:
        self.children[name].kill()
        self.children[name].wait()

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def list(self, _labels: object) -> tuple[FoundContainer, ...]:
        self.asked += 1
        self.late, known = max(0, self.late - 1), not self.late
        return tuple(self.describe(name, known=known) for name in self.children if name not in self.gone)

    def describe(self, name: str, *, known: bool) -> FoundContainer:
        child = self.children[name]
        one = FoundContainer(name=name, state="running", exit_code=0, labels=(), ports=(), pid=child.pid)
        ended = known and child.poll() is not None
        return replace(one, state="exited", exit_code=137, pid=0) if ended else one

    def await_text(self) -> str:
        (event,) = wait_until(lambda: self.said)
        assert isinstance(event, Said)
        assert event.event == "ended"
        self.said.clear()
        return event.text

    def await_look(self) -> None:
        before = self.asked
        wait_until(lambda: self.asked > before)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host()
    monkeypatch.setattr(end_watch, "list_containers", host.list)
    for name in NAMES:
        host.start(name)
    yield host
    for name in NAMES:
        host.kill(name)


@pytest.fixture
def watch(host: Host) -> Iterator[EndWatch]:
    watch = EndWatch(ENVIRONMENT, host.said.append)
    watch.start()
    wait_until(lambda: len(watch._held) == len(NAMES) and all(pid for pid, _ in watch._held.values()))
    yield watch
    watch.close()


def test_a_container_that_is_killed_is_told_with_its_exit_code_and_its_log(host: Host, watch: EndWatch) -> None:
    host.late = 2
    host.kill(NAMES[0])
    name = SERVICES[0].name
    expected = f"{name}: its container ended with exit code 137, SIGKILL; podman logs {NAMES[0]} shows its log"
    assert host.await_text() == expected


def test_what_an_action_ends_is_told_only_if_it_does_not_run_afterwards(host: Host, watch: EndWatch) -> None:
    watch.excusing(host.restart)(NAMES[0])
    wait_until(lambda: watch._held[NAMES[0]][0] == host.children[NAMES[0]].pid)
    assert not host.said
    watch.excusing(host.kill)(NAMES[0])
    assert "ended with exit code 137" in host.await_text()
    watch.excusing(host.start)(NAMES[0])
    wait_until(lambda: NAMES[0] in watch._held)
    host.kill(NAMES[0])
    assert "ended with exit code 137" in host.await_text()


def test_what_ends_beside_an_action_is_told_after_it(host: Host, watch: EndWatch) -> None:
    def act(name: str) -> None:
        host.kill(NAMES[1])
        host.restart(name)

    watch.excusing(act)(NAMES[0])
    assert host.await_text().startswith(f"{SERVICES[1].name}: its container ended")


def test_a_container_that_is_removed_is_told(host: Host, watch: EndWatch) -> None:
    host.gone.add(NAMES[0])
    host.kill(NAMES[0])
    assert host.await_text() == f"{SERVICES[0].name}: its container was removed"


def test_podman_that_fails_ends_the_watch_with_its_reason(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_labels: object) -> tuple[FoundContainer, ...]:
        raise ToolError("podman failed", hint="start it")

    monkeypatch.setattr(end_watch, "list_containers", fail)
    watch = EndWatch(ENVIRONMENT, host.said.append)
    watch.start()
    (event,) = wait_until(lambda: host.said)
    assert event == Said(event="unwatched", text="ends of containers are not told any more: podman failed (start it)")
    watch.close()


def test_one_that_has_ended_before_the_watch_began_is_told(host: Host) -> None:
    host.children[NAMES[0]].send_signal(signal.SIGKILL)
    host.children[NAMES[0]].wait()
    watch = EndWatch(ENVIRONMENT, host.said.append)
    watch.start()
    assert "ended with exit code 137" in host.await_text()
    watch.close()
