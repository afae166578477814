"""Use a development environment that runs: its shells, logs and tests, and end it."""

from __future__ import annotations

import json
import os
import posixpath
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildkit.build.planner import open_planner
from buildkit.develop.dev_environment import load_dev_services, make_dev_environment
from buildkit.develop.dev_home import end_runner, find_home, remove_runs
from buildkit.develop.reload_client import ReloadClient
from buildkit.develop.stage_trees import describe_stage
from buildkit.errors import BuildError
from buildkit.events import ignore_event
from buildkit.report.text import sanitize
from buildkit.report.view import open_view
from buildkit.running.environment import RunningEnvironment
from buildkit.services.stop import stop_environment
from buildkit.tools import podman
from buildkit.tools.git import list_changed

_SHELLS = ("bash", "sh")
_STARTS_IT = "nox -s dev starts it"


def _find_environment(folder: Path, name: str, stage: str = "") -> RunningEnvironment:
    with open_planner(folder, ignore_event) as planner:
        services = load_dev_services(folder, planner.graph, stage=stage)
        return make_dev_environment(services, planner, name)


def stop(folder: Path, environment: str, *, stage: str = "", volumes: bool = False) -> int:
    """End the environment, whether a process watches or it is detached; volumes stay unless asked for."""
    home = find_home(folder)
    ended = end_runner(home)
    with open_view(sys.stderr) as emit:
        names = stop_environment(_find_environment(folder, environment, stage), emit, volumes=volumes)
    remove_runs(home)
    sys.stderr.write("ended\n" if ended or names else "nothing was running\n")
    return 0


def open_shell(folder: Path, environment: str, service: str) -> int:
    """Open a shell in a service, or Python where the image has none; return its exit code."""
    name = _get_container(folder, environment, service)
    for shell in (*_SHELLS, "python", "python3"):
        if podman.execute(name, (shell, "-c", "")).code == 0:
            return _interact("exec", "--interactive", *(("--tty",) if sys.stdin.isatty() else ()), name, shell)
    raise BuildError(f"{service}: the image has neither a shell nor Python", hint="podman exec starts what it has")


def follow_logs(folder: Path, environment: str, service: str) -> int:
    """Show the log of a service, and follow it until Ctrl-C."""
    return _interact("logs", "--follow", _get_container(folder, environment, service))


def _get_container(folder: Path, environment: str, service: str) -> str:
    """Return the name of a service's container. Raises BuildError if there is none."""
    name = _find_environment(folder, environment).get(service).container.name
    if not podman.has_container(name):
        raise BuildError(f"{service} does not run", hint=_STARTS_IT)
    return name


def _interact(*words: str) -> int:
    """Run podman on this terminal."""
    sys.stdout.flush()
    return os.spawnvp(os.P_WAIT, "podman", ("podman", *words))  # noqa: S606 - no shell is meant


def run_tests(folder: Path, environment: str, arguments: Sequence[str]) -> int:
    """Run pytest in the warm process of the first application that has one; return pytest's exit code.

    Without arguments, only test files that reach a file that differs from the commit are run, or all if none differs.
    Raises BuildError if nothing runs.
    """
    control = next(iter(sorted(find_home(folder).glob("run-*/control/*/control"))), None)
    if control is None:
        raise BuildError("no development environment with a reloader runs in this checkout", hint=_STARTS_IT)
    touched = () if arguments else _find_touched(folder, environment, control.parent.name)
    answers = _Answers()
    client = ReloadClient(control, answers.hear)
    try:
        return answers.wait(client, list(arguments), list(touched))
    finally:
        client.close()


def _find_touched(folder: Path, environment: str, service: str) -> tuple[str, ...]:
    """Return the paths in the container of staged files that differ from the commit."""
    changed = list_changed(folder)
    if not changed:
        return ()
    with open_planner(folder, ignore_event) as planner:
        services = load_dev_services(folder, planner.graph)
        stage = make_dev_environment(services, planner, environment).get(service).stage
        folders = describe_stage(planner, stage).sources
    return tuple(
        posixpath.normpath(posixpath.join(target, posixpath.relpath(path, source)))
        for path in changed
        for source, target in folders
        if path == source or path.startswith(f"{source}/")
    )


class _Answers:
    """Prints the output of a run of tests, and keeps its exit code."""

    def __init__(self) -> None:
        self._run = f"tests-{os.getpid()}"
        self._done = threading.Event()
        self._code = 1

    def hear(self, event: Any) -> None:  # noqa: ANN401 - JSON
        if event.get("run") not in (self._run, None):
            return
        if event["event"] == "output":
            text = str(event.get("text"))
            sys.stdout.write(sanitize(text) if sys.stdout.isatty() else text)
            sys.stdout.flush()
        elif event["event"] == "tested":
            self._code = int(event.get("code") or 0)
            self._done.set()
        elif event["event"] == "refused":
            sys.stderr.write(f"refused: {json.dumps(event.get('message'))}\n")
            self._code = 2
            self._done.set()

    def wait(self, client: ReloadClient, arguments: list[str], touched: list[str]) -> int:
        """Ask for the run, and return its exit code; Ctrl-C cancels it. Raises BuildError if its container ends."""
        chosen = {"touched": touched} if touched else {}
        before = client.losses
        while not client.send("test", args=arguments, run=self._run, **chosen):
            self._done.wait(0.02)
            before = client.losses
        try:
            while not self._done.wait(0.5):
                if client.losses > before:
                    raise BuildError("the container ended before its tests did", hint="run them again")
        except KeyboardInterrupt:
            client.send("cancel", run=self._run)
            raise
        return self._code
