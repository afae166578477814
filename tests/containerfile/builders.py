"""Build a Containerfile with buildah, podman or docker, and describe the result uniformly."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.containerfile.trees import Entry, read_tree
from tests.e2e.tinyproject import Tiny
from tests.waiting import wait_until

_DEBIANS_DOCKER = "/usr/bin/docker"  # of the daemon's version; a newer one asks for buildx


class Builder(Protocol):
    """The operations of a builder that tests use."""

    def build(self, context: Path, file: str, tag: str, **arguments: str) -> None:
        """Build; a failure shows the whole output."""

    def tree(self, tag: str) -> dict[str, Entry]:
        """Return the files of an image."""

    def config(self, tag: str) -> dict[str, Any]:
        """How it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buildah:
    """buildah, or podman, which builds with the same library."""

    workshop: Tiny
    program: str = "buildah"

    def build(self, context: Path, file: str, tag: str, **arguments: str) -> None:
        layers = ("--layers",)  # podman's default
        options = ("--isolation=chroot", "--format=docker", f"--ignorefile={context / file}.dockerignore", *layers)
        given = tuple(f"--build-arg={name}={value}" for name, value in arguments.items())
        argv = (self.program, "build", *options, *given, f"--file={context / file}", f"--tag={tag}", str(context))
        done = subprocess.run(argv, env=self.workshop.env, cwd=self.workshop.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def tree(self, tag: str) -> dict[str, Entry]:
        return tree_of(self.workshop, tag)

    def config(self, tag: str) -> dict[str, Any]:
        return config_of(self.workshop, tag)


@dataclass(frozen=True, slots=True, kw_only=True)
class Docker:
    """docker with BuildKit."""

    env: dict[str, str]

    def run(self, *argv: str) -> str:
        done = subprocess.run((_DEBIANS_DOCKER, *argv), env=self.env, capture_output=True, text=True)
        assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def build(self, context: Path, file: str, tag: str, **arguments: str) -> None:
        given = tuple(f"--build-arg={name}={value}" for name, value in arguments.items())
        network = "--network=host"  # the daemon has no bridge
        self.run("build", network, "--quiet", *given, f"--file={context / file}", f"--tag={tag}", str(context))

    def tree(self, tag: str) -> dict[str, Entry]:
        box = self.run("create", tag, "/none").strip()
        with tempfile.TemporaryFile() as file:
            subprocess.run((_DEBIANS_DOCKER, "export", box), env=self.env, stdout=file, check=True)
            file.seek(0)
            self.run("rm", box)
            return read_tree(file)

    def config(self, tag: str) -> dict[str, Any]:
        (known,) = json.loads(self.run("image", "inspect", tag))
        return plain(known["Config"])


@contextmanager
def serve_docker(folder: Path) -> Iterator[Docker]:
    """A daemon that keeps everything below ``folder`` and changes no network of the host."""
    if os.geteuid() != 0 or not Path(_DEBIANS_DOCKER).exists():
        pytest.skip("a docker daemon needs uid 0, and Debian's docker.io")
    socket = folder / "docker.sock"
    kept = ("--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid")
    mortal = ("setpriv", "--pdeathsig", "TERM")  # if we are killed, it ends too
    argv = (
        *mortal,
        "dockerd",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        *kept,
        "--host",
        f"unix://{socket}",
    )
    with (folder / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as daemon:
        try:
            env = os.environ | {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "1", "HOME": str(folder)}
            wait_until(lambda: daemon.poll() is not None or _answers(env))
            if daemon.poll() is not None:
                pytest.skip(f"no docker daemon can run here: {(folder / 'log').read_text()[-300:]}")
            yield Docker(env=dict(env))
        finally:
            daemon.terminate()
            try:
                daemon.wait(timeout=30)
            except subprocess.TimeoutExpired:
                daemon.kill()


def _answers(env: dict[str, str]) -> bool:
    return subprocess.run((_DEBIANS_DOCKER, "version"), env=env, capture_output=True, check=False).returncode == 0


def tree_of(tiny: Tiny, image: str) -> dict[str, Entry]:
    """Return the files of an image in a project's storage."""
    box = tiny.tool("podman", "create", image, "/none").strip()
    file = tiny.folder / "tree.tar"
    try:
        tiny.tool("podman", "export", "--output", str(file), box)
        with file.open("rb") as tar:
            return read_tree(tar)
    finally:
        file.unlink(missing_ok=True)
        tiny.tool("podman", "rm", "--force", box)


def config_of(tiny: Tiny, image: str) -> dict[str, Any]:
    """How an image of a project's storage runs."""
    known = json.loads(tiny.tool("buildah", "inspect", "--type=image", image))
    return plain(known["Docker"]["config"])


def plain(config: dict[str, Any]) -> dict[str, Any]:
    """A config in one way of saying it: what is absent, empty, or the default by name are the same."""
    health = config.get("Healthcheck") or {}
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)  # added by buildah by default
    return {
        "Env": dict(line.split("=", 1) for line in config.get("Env") or ()),
        "Labels": labels,
        "Cmd": config.get("Cmd") or [],
        "Entrypoint": config.get("Entrypoint") or [],
        "User": "" if config.get("User") == "0" else config.get("User") or "",
        "WorkingDir": config.get("WorkingDir") or "/",
        "ExposedPorts": sorted(config.get("ExposedPorts") or ()),
        "Volumes": sorted(config.get("Volumes") or ()),
        "StopSignal": config.get("StopSignal") or "SIGTERM",
        "Healthcheck": {} if health.get("Test") == ["NONE"] else {key: value for key, value in health.items() if value},
    }
