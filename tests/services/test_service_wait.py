"""How long a start waits for a service, and what it asks meanwhile."""

from __future__ import annotations

import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.declare.ports import PublishedPort
from buildkit.declare.stage import Healthcheck, Running
from buildkit.errors import BuildError
from buildkit.running.environment import RunningService
from buildkit.running.flags import ContainerSpec
from buildkit.services import wait
from buildkit.tools.process import CommandResult


class Asked:
    """podman with one container, whose process is this one; ``codes`` are what its health checks answer."""

    def __init__(self, patch: pytest.MonkeyPatch, codes: list[int]) -> None:
        self.codes = codes
        self.order: list[str] = []
        patch.setattr(wait.podman, "check_health", self.check)
        patch.setattr(wait.podman, "inspect_container", self.inspect)
        patch.setattr(wait.podman, "read_log", lambda _name: "the end of a log")

    def check(self, _name: str) -> CommandResult:
        self.order.append("check")
        return CommandResult(code=self.codes.pop(0), stdout=b"", stderr=b"")

    def inspect(self, _name: str) -> dict[str, Any]:
        self.order.append("inspect")
        return {"State": {"Pid": os.getpid(), "Status": "running" if self.codes else "exited", "ExitCode": 3}}


def service(*ports: int, is_checked: bool = True) -> RunningService:
    container = ContainerSpec(
        image="i",
        name="n",
        running=Running(),
        ports=tuple(PublishedPort(number=port, host=port) for port in ports),
        health=Healthcheck(test=("python", "check.py")) if is_checked else None,
    )
    return RunningService(name="app", container=container)


def listening(address: str, port: int) -> str:
    """Return /proc/net/tcp with one socket that listens."""
    return f"head\n 0: {address}:{port:04X} 00000000:0000 0A\n"


def test_a_health_check_is_not_run_before_the_service_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, [0])
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))

        def read(path: str, *, rootless: bool) -> str:
            assert not rootless
            if path.endswith("/tcp"):
                asked.order.append("look")
            if asked.order.count("look") == 3:
                listener.listen()
            return Path(path).read_text()

        monkeypatch.setattr(wait.podman, "read_proc", read)
        wait.wait_healthy(service(listener.getsockname()[1], 9), 10)
    assert asked.order == ["inspect", "look", "look", "look", "check", "look"]


def test_a_service_that_is_not_healthy_yet_is_not_described_and_one_that_ended_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch, [1, 1, 125])
    with pytest.raises(BuildError, match="app ended with exit code 3 before it was healthy") as raised:
        wait.wait_healthy(service(), 10)
    assert raised.value.output == "the end of a log"
    assert asked.order == ["check", "check", "check", "inspect"]


class TestAServiceThatIsHealthy:
    """Its check runs in the container, where it reaches what listens at loopback; others do not."""

    @pytest.fixture(autouse=True)
    def healthy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Asked(monkeypatch, [0])
        monkeypatch.setattr(wait, "_GLANCES", 0.2)

    def test_is_told_if_others_cannot_reach_a_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        table = listening("00000000", 9000) + listening("0100007F", 8000)
        monkeypatch.setattr(wait.podman, "read_proc", lambda path, **_: table if path.endswith("tcp") else "head\n")
        assert wait.wait_healthy(service(9000, 8000), 10) == (
            "app: others cannot reach port 8000, though it is healthy: it listens at 127.0.0.1 in its container; "
            "let it listen at 0.0.0.0"
        )

    def test_has_a_moment_to_listen_for_others(self, monkeypatch: pytest.MonkeyPatch) -> None:
        tables = iter([*[listening("0100007F", 8000)] * 3, listening("00000000", 8000)])
        monkeypatch.setattr(wait.podman, "read_proc", lambda path, **_: next(tables) if path.endswith("tcp") else "")
        assert wait.wait_healthy(service(8000), 10) == ""
        assert next(tables, None) is None

    @pytest.mark.parametrize(
        ("tcp", "tcp6"),
        [
            ("", ""),  # the kernel tells nothing
            ("head\n", "head\n"),  # a debugger that is asked for later
            (listening("0100007F", 8000), listening("0" * 32, 8000)),
            (listening("0100007F", 5000), "head\n"),  # it publishes another
        ],
    )
    def test_is_believed_where_nothing_is_hidden(self, tcp: str, tcp6: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(wait.podman, "read_proc", lambda path, **_: tcp if path.endswith("tcp") else tcp6)
        assert wait.wait_healthy(service(8000), 10) == ""

    def test_is_not_looked_at_if_it_publishes_no_port_of_tcp(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(wait.podman, "read_proc")
        container = replace(service().container, ports=(PublishedPort(number=53, host=53, protocol="udp"),))
        assert wait.wait_healthy(RunningService(name="dns", container=container), 10) == ""


class TestAServiceWithoutACheck:
    """A container that runs is no service yet: its first port tells."""

    def test_is_waited_for_until_others_reach_its_first_port(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked = Asked(monkeypatch, [0])
        tables = iter(["head\n", listening("0100007F", 8000), listening("00000000", 8000)])
        monkeypatch.setattr(wait.podman, "read_proc", lambda path, **_: next(tables) if path.endswith("tcp") else "")
        wait.wait_healthy(service(8000, is_checked=False), 10)
        assert next(tables, None) is None
        assert asked.order == ["inspect", "inspect"]

    @pytest.mark.parametrize(
        ("table", "lack"),
        [
            ("head\n", "it does not listen at 8000"),
            (listening("0100007F", 8000), "it listens at 127.0.0.1, not at 0.0.0.0"),
        ],
    )
    def test_is_an_error_if_nobody_reaches_it(self, table: str, lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
        Asked(monkeypatch, [0])
        monkeypatch.setattr(wait.podman, "read_proc", lambda _path, **_: table)
        with pytest.raises(BuildError, match=f"app cannot be reached after 0 s: {lack}") as raised:
            wait.wait_healthy(service(8000, is_checked=False), 0)
        assert raised.value.output == "the end of a log"

    def test_is_an_error_if_it_ends_before(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Asked(monkeypatch, [])
        monkeypatch.setattr(wait.podman, "read_proc", lambda _path, **_: "")
        with pytest.raises(BuildError, match="app ended with exit code 3 before it was healthy"):
            wait.wait_healthy(service(8000, is_checked=False), 10)

    def test_runs_if_it_has_no_port_or_the_kernel_tells_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        Asked(monkeypatch, [0])
        monkeypatch.setattr(wait.podman, "read_proc", lambda _path, **_: "")
        wait.wait_healthy(service(is_checked=False), 10)
        wait.wait_healthy(service(8000, is_checked=False), 10)
