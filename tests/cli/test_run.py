"""The session ``run-STAGE``: which options and settings reach the start of the container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildkit.cli import run as session
from buildkit.errors import BuildError, DefinitionError, ToolError
from buildkit.inspection import start_container as starting
from buildkit.running.host import PodmanHost
from buildkit.running.seccomp import PROFILE

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(
    ("stage", "option", "strict"),
    [
        ("hardened", (), True),
        ("hardened", ("--no-strict",), False),
        ("runtime", (), False),
        ("runtime", ("--strict",), True),
    ],
)
def test_stage_says_whether_a_lacking_host_is_an_error_unless_an_option_does(
    stage: str, option: tuple[str, ...], strict: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(session, "start_container", lambda _container, **given: started.append(given) or 0)
    monkeypatch.setattr(session.podman, "find_image_config", lambda _ref: {})
    assert session.run(ROOT, stage, ("--no-build", *option)) == 0
    assert [given["strict"] for given in started] == [strict]


def test_seccomp_prints_the_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert session.run(ROOT, "hardened", ("--seccomp",)) == 0
    assert capsys.readouterr().out == PROFILE.read_text("utf-8")


def test_a_strict_container_is_not_started_on_a_host_that_lacks_a_flag(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.running.test_container import PLAIN

    monkeypatch.setattr(starting.podman, "start_detached", lambda _argv: pytest.fail("it was started"))
    monkeypatch.setattr("buildkit.tools.podman.probe_host", lambda: PodmanHost(controllers=("pids",)))
    with pytest.raises(BuildError, match="as strictly as it should") as raised:
        starting.start_container(PLAIN, detach=True, strict=True)
    assert "--no-strict" in raised.value.hint
    assert "--memory=1g cannot be applied" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("said", "removed"),
    [
        ("Error: cannot listen on the TCP port: bind: address already in use", ["x-test"]),  # made, but not started
        ('Error: the container name "x-test" is already in use by 0123', []),  # another's
    ],
)
def test_a_container_that_could_not_be_started_does_not_stay(
    said: str, removed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.running.test_container import PLAIN

    def refuse(_argv: Sequence[str]) -> None:
        raise ToolError("podman could not start x-test", output=said)

    gone: list[str] = []
    monkeypatch.setattr(starting.podman, "start_detached", refuse)
    monkeypatch.setattr(starting.podman, "remove", gone.append)
    monkeypatch.setattr("buildkit.tools.podman.probe_host", PodmanHost)
    with pytest.raises(ToolError):
        starting.start_container(replace(PLAIN, name="x-test"), detach=True)
    assert gone == removed


@pytest.mark.parametrize(
    ("stage", "message", "hint"),
    [
        ("ml-deps", "stages/ml-deps/stage.toml: nothing can run in it, because it has no root", "add `from` or [root]"),
        ("base", "stages/base/stage.toml: there is nothing to run: the image has no command", "set `cmd` in [config]"),
    ],
)
def test_stage_that_can_run_nothing_is_named_not_the_host(stage: str, message: str, hint: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        session.run(ROOT, stage, ("--no-build",))
    assert caught.value.message == message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            "INTERNALERROR> OSError: [Errno 30] Read-only file system: '/app/.pytest_cache/x'\n",
            '"/app/.pytest_cache" =',
        ),
        ("PermissionError: [Errno 13] Permission denied: '/var/lib/app/x.db'\n", '"/var/lib/app" = "64m"'),
        (
            "Couldn't use data file '/app/.coverage': unable to open database file\n",
            "/app/.coverage could not be written",
        ),
        ("sqlite3.OperationalError: attempt to write a readonly database\n", "name a folder in memory"),
        ("mkdir: cannot create directory '/srv/x': Read-only file system\n", '"/FOLDER" = "64m"'),
        ("Traceback: ValueError\n", ""),
    ],
)
def test_folder_that_cannot_be_written_is_explained(output: str, said: str) -> None:
    from tests.running.test_container import PLAIN

    hint = starting.explain_failure(output, 1, PLAIN)
    assert (said in hint) if said else not hint
    assert hint.count("\n") == bool(said)


@pytest.mark.parametrize(
    "output",
    [
        "OSError: [Errno 101] Network is unreachable\n",
        "socket.gaierror: [Errno -3] Temporary failure in name resolution\n",
        "curl: (6) Could not resolve host: hub.example\n",
        "Error: getaddrinfo EAI_AGAIN hub.example\n",
    ],
)
def test_host_that_cannot_be_reached_is_explained_where_none_may_be(output: str) -> None:
    from tests.running.test_container import PLAIN

    assert "outgoing = true" in starting.explain_failure(output, 1, PLAIN)
    free = replace(PLAIN, running=replace(PLAIN.running, outgoing=True))
    assert starting.explain_failure(output, 1, free) == ""


def test_killed_container_is_told_of_its_memory() -> None:
    from tests.running.test_container import PLAIN

    assert "more memory than 1g" in starting.explain_failure("", 137, PLAIN)
