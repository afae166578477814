"""The development session with a service that does not reload by itself: it is restarted, or its image built again."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_survival_disk import small_disk
from tests.e2e.tinyproject import Tiny, one_error, read_event
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
MAIN = "trap 'exit 0' TERM\ncat /app/words.txt > /tmp/answer\nwhile :; do sleep 0.1; done\n"
SERVICES = """
[services.app]
stage = "app"
healthcheck = { test = ["/bin/ls", "/tmp/answer"], interval = 1, timeout = 5, retries = 3 }

[services.data]
stage = "base"
command = ["/bin/sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"]

[environments.dev]
services = ["app", "data"]
"""


class DevProcess:
    """A running session, and the containers that it has started."""

    def __init__(self, tiny: Tiny, name: str, child: subprocess.Popen[str]) -> None:
        self.tiny = tiny
        self.name = name
        self.child = child

    def next(self, event: str = "reacted") -> dict[str, Any]:
        return read_event(self.child, event)

    def answer(self) -> str:
        return self.tiny.tool("podman", "exec", f"{self.name}-dev-app", "cat", "/tmp/answer")

    def shown(self) -> set[str]:
        return set(self.tiny.tool("podman", "exec", f"{self.name}-dev-app", "ls", "/app").split())

    def id(self, service: str) -> str:
        shown = "{{.Id}} {{.State.StartedAt}}"
        return self.tiny.tool("podman", "container", "inspect", "--format", shown, f"{self.name}-dev-{service}")


@pytest.fixture
def named(tiny: Tiny) -> str:
    return prepare(tiny)


def prepare(tiny: Tiny) -> str:
    """Give a project services, and a name whose networks meet those of no other test; return that."""
    name = f"t{secrets.token_hex(4)}"
    tiny.replace("pyproject.toml", "[tool.buildkit]\n", f'[tool.buildkit]\nname = "{name}"\n')
    tiny.write("stages/app/app/main.sh", MAIN)
    tiny.write("stages/app/app/words.txt", "one\n")
    tiny.write(".containerignore", "**/*.md\n")
    tiny.write("stages/app/app/notes.md", "not for images\n")
    tiny.write("services.toml", SERVICES)
    tiny.git("add", ".")
    return name


@contextmanager
def developing(tiny: Tiny, name: str, code: int = 0) -> Iterator[DevProcess]:
    """Run the session until the block ends, by Ctrl-C; nothing is left then."""
    session = (tiny.python, "-m", "buildkit", "dev", "--json")
    with (
        (tiny.folder / "errors").open("w+") as errors,
        subprocess.Popen(
            (*tiny.before, "env", f"--chdir={tiny.project}", *session), env=tiny.env, text=True,
            stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        ) as child,
    ):  # fmt: skip
        try:
            yield DevProcess(tiny, name, child)
        finally:
            with suppress(ProcessLookupError):  # it has failed, and says why
                os.killpg(child.pid, signal.SIGINT)
            child.communicate(timeout=60)
            errors.seek(0)
            sys.stderr.write(errors.read())
        assert child.returncode == code
    assert tiny.tool("podman", "ps", "--all", "--quiet") == ""
    assert name not in tiny.tool("podman", "network", "ls", "--format", "{{.Name}}")
    assert list((tiny.cache / "dev").glob("*/run-*")) == []


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Fill the disk of a folder."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    yield
    filler.unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")
def test_save_on_a_full_disk_is_one_message_and_the_next_one_is_followed(tiny: Tiny, named: str) -> None:
    tiny.cache.mkdir(mode=0o700)
    with small_disk(tiny.cache / "dev", "size=200k"), developing(tiny, named) as running:
        running.next("watching")
        with full(tiny.cache / "dev"):
            tiny.write("stages/app/app/words.txt", "too much\n" * 1000)
            said = running.next()
            assert (said["ok"], "the disk is full" in said["text"]) == (False, True), said
            assert running.answer() == "one\n"
        tiny.write("stages/app/app/words.txt", "two\n")
        assert running.next()["ok"]
        assert running.answer() == "two\n"


def test_saves_restart_locks_rebuild_and_ctrl_c_leaves_nothing(tiny: Tiny, named: str) -> None:
    with developing(tiny, named) as running:
        started = {running.next("service")["service"] for _ in range(2)}
        assert started == {"app", "data"}
        running.next("watching")
        assert running.answer() == "one\n"
        assert running.shown() == {"main.sh", "words.txt"}, "what .containerignore leaves out is not shown"
        app, data = running.id("app"), running.id("data")
        assert "runs already" in one_error(tiny.run("dev"), 1)

        (tiny.project / "stages/app/app/words.new").write_text("two\n")
        (tiny.project / "stages/app/app/words.new").rename(tiny.project / "stages/app/app/words.txt")
        said = running.next()
        assert (said["action"], said["ok"], said["files"]) == ("restart", True, ["stages/app/app/words.txt"]), said
        assert running.answer() == "two\n"
        assert running.id("app") != app

        tiny.write("stages/app/app/fresh.txt", "fresh\n")
        assert "not tracked by git" in running.next("warning")["text"]
        assert "fresh.txt" not in running.shown(), "the image will not have it"
        tiny.git("add", ".")
        assert running.next()["action"] == "restart"
        assert "fresh.txt" in running.shown()

        tiny.replace("requirements/app.in", "alpha==1.0", "alpha==1.1")
        said = running.next()
        assert (said["ok"], "nox -s lock" in said["text"]) == (False, True), said
        tiny.lock()
        while not (said := running.next())["ok"]:
            pass  # locks are written one after the other
        assert (said["action"], said["service"]) == ("rebuild", "app"), said
        assert "app replaced, data untouched" in said["text"]
        found = tiny.tool("podman", "exec", f"{named}-dev-app", "ls", "/opt/venv/lib/python3.13/site-packages")
        assert "alpha-1.1.dist-info" in found
        assert running.answer() == "two\n"
        assert running.id("data") == data

        tiny.tool("podman", "kill", f"{named}-dev-data")
        said = running.next("ended")
        assert (said["service"], said["exit_code"]) == ("data", "137"), said
        assert f"podman logs {named}-dev-data shows its log" in said["text"]


def test_ctrl_c_while_a_service_is_awaited_and_each_mistake_leave_nothing(tiny: Tiny, named: str) -> None:
    tiny.replace("stages/app/app/main.sh", "cat /app/words.txt > /tmp/answer\n", "")
    with developing(tiny, named, code=130):
        wait_until(lambda: f"{named}-dev-app" in tiny.tool("podman", "ps", "--format", "{{.Names}}"))
    tiny.replace("stages/app/app/main.sh", "trap", "echo no luck; exit 7; trap")
    text = tiny.run("dev").text
    assert "app ended with exit code 7 before it was healthy" in text
    assert "no luck" in text
    assert tiny.tool("podman", "ps", "--all", "--quiet") == ""
    assert named not in tiny.tool("podman", "network", "ls", "--format", "{{.Name}}")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        app, token = '[services.app]\nstage = "app"\n', "[secrets.token]\nenv = 'TINY_TOKEN'\n"
        for addition, code, said in (
            (f"ports = ['{port}:8000']", 1, f"app: port 127.0.0.1:{port} of this host is in use by another program"),
            ("depends-on = { data = 'started' }", 2, "in a cycle: app → data → app"),
            ("secrets = ['token']", 1, "the variable TINY_TOKEN is not set"),
        ):
            data = (
                "depends-on = { app = 'started' }\n[environments.dev]" if "data" in addition else "[environments.dev]"
            )
            text = SERVICES.replace(app, f"{app}{addition}\n").replace("[environments.dev]", data)
            tiny.write("services.toml", text + (token if "token" in addition else ""))
            assert said in one_error(tiny.run("dev"), code)
            assert tiny.tool("podman", "ps", "--all", "--quiet") == ""
            assert named not in tiny.tool("podman", "network", "ls", "--format", "{{.Name}}")
    for option in ("--logs", "--shell"):
        assert "data does not run" in one_error(tiny.run("dev", option, "data"), 1)
    assert "--volumes goes with --stop" in one_error(tiny.run("dev", "--volumes"), 2)
    (tiny.project / "services.toml").unlink()
    assert "there is neither services.toml nor a stage `development`" in one_error(tiny.run("dev"), 2)
