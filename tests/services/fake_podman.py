"""podman as environments use it, in memory; `test_services_live` holds its commands against those of the real one."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from buildkit.tools import podman, podman_objects
from buildkit.tools.process import Command, CommandResult

Run = Callable[[Command], CommandResult]


def verb_of(command: Command) -> str:
    """Return what a command of podman does: ``run``, or ``secret create``."""
    words = command.argv[1:]
    return " ".join(words[:2]) if words[0] in ("network", "volume", "secret", "image", "container") else words[0]


class Recorder:
    """Passes commands on, and keeps what they do."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.verbs: list[str] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module in (podman, podman_objects):
            patch.setattr(module, "run", self)

    def __call__(self, command: Command) -> CommandResult:
        if command.argv[0] == "podman":
            self.verbs.append(verb_of(command))
        return self._run(command)


class FakePodman:
    """Containers are healthy at once, and those whose names end with one of ``jobs`` have ended at once."""

    def __init__(self, *jobs: str) -> None:
        self.containers: dict[str, dict[str, Any]] = {}
        self.networks: dict[str, tuple[str, ...]] = {}
        self.volumes: set[str] = set()
        self.secrets: dict[str, dict[str, str]] = {}
        self.recorder = Recorder(self._run)
        self.interrupted = 0
        self._interrupts: set[int] = set()
        self._early = False
        self._jobs = jobs
        self._made = 0

    def interrupt(self, *numbers: int, early: bool) -> None:
        """Send SIGINT before (``early``) or after the commands of these numbers, of those that come from now on."""
        self._interrupts = {number + len(self.recorder.verbs) for number in numbers}
        self._early = early

    @property
    def running(self) -> set[str]:
        return {name for name, one in self.containers.items() if one["State"] == "running"}

    def _run(self, command: Command) -> CommandResult:
        number = len(self.recorder.verbs) - 1
        self._signal(number, early=True)
        words = list(command.argv[1:])
        code, text = self._do(verb_of(command), words, words[-1]) if command.argv[0] == "podman" else (0, "")
        self._signal(number, early=False)
        assert code in command.accept, command
        return CommandResult(code=code, stdout=text.encode(), stderr=b"")

    def _signal(self, number: int, *, early: bool) -> None:
        if self._early == early and number in self._interrupts:
            self.interrupted += 1
            signal.raise_signal(signal.SIGINT)

    def _do(self, verb: str, words: list[str], name: str) -> tuple[int, str]:
        method = getattr(self, "_make" if verb == "run" else f"_{verb.replace(' ', '_')}")
        done: tuple[int, str] = method(words, name)
        return done

    def _info(self, _words: list[str], _name: str) -> tuple[int, str]:
        network = {"version": "netavark 1.14.0"}
        return 0, json.dumps({"version": {"Version": "5.4.2"}, "host": {"networkBackendInfo": network}})

    def _image_inspect(self, words: list[str], _name: str) -> tuple[int, str]:
        return 0, "\n".join(f"id-of-{ref}" for ref in words[4:])

    def _ps(self, words: list[str], _name: str) -> tuple[int, str]:
        wanted = {word.removeprefix("label=") for word in words if word.startswith("label=")}
        found = [
            {"Names": [name], "State": one["State"], "ExitCode": 0, "Labels": one["Labels"]}
            for name, one in self.containers.items()
            if wanted <= {f"{label}={value}" for label, value in one["Labels"].items()}
        ]
        return 0, json.dumps(found)

    def _make(self, words: list[str], _name: str) -> tuple[int, str]:
        name = podman.name_of(words)
        assert name not in self.containers, "podman gives a name once"
        labels = dict(word.removeprefix("--label=").split("=", 1) for word in words if word.startswith("--label="))
        state = "exited" if name.endswith(self._jobs) else "running"
        self._made += 1
        self.containers[name] = {"State": state, "Labels": labels, "Id": self._made}
        return 0, ""

    def _container_inspect(self, _words: list[str], name: str) -> tuple[int, str]:
        return 0, json.dumps([{"State": {"Status": self.containers[name]["State"], "ExitCode": 0}}])

    def _healthcheck(self, _words: list[str], name: str) -> tuple[int, str]:
        return (0 if name in self.running else 125), ""

    def _stop(self, _words: list[str], name: str) -> tuple[int, str]:
        if name in self.containers:
            self.containers[name]["State"] = "exited"
        return 0, ""

    def _start(self, _words: list[str], name: str) -> tuple[int, str]:
        self.containers[name]["State"] = "running"
        return 0, ""

    def _rm(self, _words: list[str], name: str) -> tuple[int, str]:
        self.containers.pop(name, None)
        return 0, ""

    def _rename(self, words: list[str], name: str) -> tuple[int, str]:
        assert name not in self.containers
        self.containers[name] = self.containers.pop(words[1])
        return 0, ""

    def _network_inspect(self, _words: list[str], name: str) -> tuple[int, str]:
        if name not in self.networks:
            return 125, ""
        argv = self.networks[name]
        subnets = [{"subnet": argv[argv.index("--subnet") + 1]}] if "--subnet" in argv else []
        option, _, value = argv[argv.index("--opt") + 1].partition("=") if "--opt" in argv else ("", "", "")
        return 0, json.dumps([{"subnets": subnets, "options": {option: value}}])

    def _network_create(self, words: list[str], name: str) -> tuple[int, str]:
        self.networks[name] = tuple(words)
        return 0, ""

    def _network_rm(self, _words: list[str], name: str) -> tuple[int, str]:
        self.networks.pop(name, None)
        return 0, ""

    def _volume_create(self, _words: list[str], name: str) -> tuple[int, str]:
        self.volumes.add(name)
        return 0, ""

    def _volume_ls(self, _words: list[str], _name: str) -> tuple[int, str]:
        return 0, "\n".join(self.volumes)

    def _volume_rm(self, _words: list[str], name: str) -> tuple[int, str]:
        self.volumes.remove(name)
        return 0, ""

    def _secret_ls(self, _words: list[str], _name: str) -> tuple[int, str]:
        return 0, "\n".join(self.secrets)

    def _secret_inspect(self, _words: list[str], _name: str) -> tuple[int, str]:
        found = [
            {"ID": f"{name}-{labels['made']}", "Spec": {"Name": name, "Labels": labels}}
            for name, labels in self.secrets.items()
        ]
        return 0, json.dumps(found)

    def _secret_create(self, words: list[str], _name: str) -> tuple[int, str]:
        labels = dict(words[place + 1].split("=", 1) for place, word in enumerate(words) if word == "--label")
        self._made += 1
        self.secrets[words[-2]] = {**labels, "made": str(self._made)}
        return 0, ""

    def _secret_rm(self, _words: list[str], name: str) -> tuple[int, str]:
        self.secrets.pop(name, None)
        return 0, ""
