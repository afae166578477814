"""How long a start waits for a service, and what it asks meanwhile."""

from __future__ import annotations

import os
import socket
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


def service(*ports: int) -> RunningService:
    container = ContainerSpec(
        image="i",
        name="n",
        running=Running(),
        ports=tuple(PublishedPort(number=port, host=port) for port in ports),
        health=Healthcheck(test=("python", "check.py")),
    )
    return RunningService(name="app", container=container)


def test_a_health_check_is_not_run_before_the_service_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked(monkeypatch, [0])
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))

        def read(path: str, *, rootless: bool) -> str:
            assert not rootless
            if path.endswith("/tcp"):
                asked.order.append("look")
            if asked.order.count("look") == 3:
                listener.listen()
            return Path(path).read_text()

        monkeypatch.setattr(wait.podman, "read_proc", read)
        wait.wait_healthy(service(listener.getsockname()[1], 9), 10)
    assert asked.order == ["inspect", "look", "look", "look", "check"]


def test_a_service_that_is_not_healthy_yet_is_not_described_and_one_that_ended_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Asked(monkeypatch, [1, 1, 125])
    with pytest.raises(BuildError, match="app ended with exit code 3 before it was healthy") as raised:
        wait.wait_healthy(service(), 10)
    assert raised.value.output == "the end of a log"
    assert asked.order == ["check", "check", "check", "inspect"]
