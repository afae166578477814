"""Images started with the recommended flags: output and effects of the session, and findings of the audit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.tinyproject import Tiny, one_error
from tests.waiting import wait_until

pytestmark = pytest.mark.tools
LOOK = Path(__file__).with_name("acts") / "look.py"
SERVICE = "trap 'exit 0' TERM\n: > /tmp/ready\necho up\nwhile :; do sleep 0.1; done\n"
STUBBORN = ": > /tmp/ready\ntrap '' TERM\nwhile :; do sleep 0.1; done\n"
HEALTH = 'test = ["/bin/ls", "/tmp/ready"]'
SETTINGS = '\n[running]\nmemory = "64m"\npids = 32\nstop-seconds = 10\n'


@pytest.fixture
def service(tiny: Tiny) -> Tiny:
    tiny.write("stages/app/app/main.sh", SERVICE)
    tiny.replace("stages/app/stage.toml", 'user = "1000"', 'user = "1000:1000"')
    tiny.replace("stages/app/stage.toml", 'test = ["/bin/sh", "-c", "exit 0"]', HEALTH)
    with (tiny.project / "stages/app/stage.toml").open("a") as file:
        file.write(SETTINGS)
    tiny.git("add", ".")
    return tiny


def look(tiny: Tiny, *without: str) -> list[str]:
    """Return the findings of the audit in a container of `app`, with some flags omitted."""
    argv = (tiny.python, str(LOOK), str(tiny.project), "app", *without)
    done = subprocess.run(argv, env=tiny.env, cwd=tiny.folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def test_run_confines_a_command_and_returns_its_exit_code(tiny: Tiny) -> None:
    done = tiny.run("run-app")
    assert done.code == 0, done.text
    assert "hello from /app" in done.text
    script = "echo x > /tmp/x && ! echo x > /app/x && echo left; exit 7"
    done = tiny.run("run-app", "--no-build", "--", "/bin/sh", "-c", script)
    assert done.code == 7, done.text
    assert "/app/x: Read-only file system" in done.text
    assert "left" in done.text
    assert "--cap-drop=all --security-opt=no-new-privileges --security-opt=seccomp=/" in done.text, "it is printed"
    assert tiny.tool("podman", "ps", "--all", "--quiet") == ""


def test_run_print_needs_no_build(tiny: Tiny) -> None:
    for how, words in (
        ("--print", "podman run --rm"),
        ("--compose", "read_only: true"),
        ("--quadlet", "ReadOnly=true"),
    ):
        done = tiny.run("run-app", how)
        assert done.code == 0, done.text
        assert words in done.text
    assert tiny.images() == {}


def test_run_reports_a_missing_image_and_wrong_options(tiny: Tiny) -> None:
    assert "localhost/tiny/app:latest is not in local storage" in one_error(tiny.run("run-app", "--no-build"), 1)
    assert "must be a port, or 0" in one_error(tiny.run("run-app", "--port", "http"), 2)


def test_run_stops_and_removes_the_container_on_interrupt(service: Tiny) -> None:
    service.build("app")
    with (service.folder / "said").open("w+") as said:
        child = subprocess.Popen(
            service.argv("run-app", "--no-build"), cwd=service.folder, env=service.env,
            stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        path = service.folder / "said"
        wait_until(lambda: "\nup\n" in path.read_text() or child.poll() is not None)
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(timeout=60) == 130, path.read_text()
    assert "stopping tiny-app" in path.read_text()
    assert service.tool("podman", "ps", "--all", "--quiet") == ""


def test_run_leaves_a_foreign_container_of_the_same_name_alone(service: Tiny) -> None:
    service.build("app")
    done = service.run("run-app", "--no-build", "--detach")
    assert done.code == 0, done.text
    assert "is already in use" in service.run("run-app", "--no-build").text
    (state,) = json.loads(service.tool("podman", "container", "inspect", "tiny-app"))
    service.tool("podman", "rm", "--force", "--time=0", "tiny-app")
    assert state["State"]["Running"] is True
    assert state["HostConfig"]["ReadonlyRootfs"] is True


def test_audit_finds_nothing_with_the_flags_and_everything_without(service: Tiny) -> None:
    service.build("app")
    assert look(service) == ["health-blind"], "a file tells nothing of a service that hangs"
    every = ("read-only", "capabilities", "no-new-privileges", "user", "memory", "no-network", "tmpfs")
    found = look(service, *every)
    assert {"root-writable", "new-privileges", "no-memory-limit", "way-out"} <= set(found)
    assert service.tool("podman", "ps", "--all", "--quiet") == ""


def test_audit_finds_a_privileged_root_and_a_service_that_does_not_stop(service: Tiny) -> None:
    service.replace("stages/app/stage.toml", 'user = "1000:1000"', 'user = "0"')
    service.replace("stages/app/stage.toml", "stop-seconds = 10", "stop-seconds = 2")
    service.write("stages/app/app/main.sh", STUBBORN)
    service.build("app")
    found = look(service, "capabilities")
    assert sorted(set(found)) == ["health-blind", "ignores-stop", "process-capabilities", "process-root"]


def test_audit_reports_how_a_container_ended_at_once(service: Tiny) -> None:
    service.write("stages/app/app/main.sh", "echo data > /app/state || exit 9\n")
    service.build("app")
    assert look(service) == ["does-not-run"]
