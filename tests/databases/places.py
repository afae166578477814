"""Containers of Redis and PostgreSQL, each with a volume, a password, and no right that it does not need."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from buildkit.running.seccomp import PROFILE
from tests.once import shared_folder
from tests.reference.builds import build, run_json
from tests.reference.engine import Podman
from tests.scanner import scan_image
from tests.waiting import wait_until

CONFINED = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp:rw,nosuid,nodev,noexec,size=16m,mode=1777",
    "--tmpfs=/dev/shm:rw,nosuid,nodev,noexec,size=64m,mode=1777", "--cap-drop=all",
    "--security-opt=no-new-privileges", f"--security-opt=seccomp={PROFILE}",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What containers of one image need: the volume's place, the secret's name, and the user that reads it."""

    volume: str
    secret: str
    uid: int


REDIS = Kind(volume="/var/lib/redis", secret="redis-password", uid=65530)
POSTGRES = Kind(volume="/var/lib/postgresql", secret="postgres-password", uid=65531)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A running container, and its password."""

    podman: Podman
    name: str
    password: str

    def wait(self) -> None:
        """Wait until the health check passes."""
        wait_until(lambda: self.is_healthy or self.state != "running", lambda: self.logs)
        assert self.state == "running", self.logs

    @property
    def is_healthy(self) -> bool:
        """Whether the health check passes, run now."""
        argv = ("podman", "healthcheck", "run", self.name)
        return subprocess.run(argv, env=dict(self.podman.env), capture_output=True).returncode == 0

    @property
    def state(self) -> str:
        """podman's word for it: ``running``, ``exited``."""
        return self.podman("container", "inspect", "--format={{.State.Status}}", self.name).strip()

    @property
    def logs(self) -> str:
        """Everything that was written so far."""
        argv = ("podman", "logs", self.name)
        done = subprocess.run(
            argv, env=dict(self.podman.env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.stdout

    def wait_for_log(self, text: str) -> None:
        """Wait until it has written something."""
        wait_until(lambda: text in self.logs, lambda: self.logs)

    def end(self) -> int:
        """Wait for its end and return its exit code."""
        return int(self.podman("wait", self.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A volume and an image whose containers use it, one after another."""

    podman: Podman
    image: str
    kind: Kind
    volume: str
    folder: Path

    @contextmanager
    def starting(self, password: str | None, *options: str) -> Iterator[Container]:
        """A container that has just been started; without a secret if there is no password."""
        name = f"buildkit-test-{uuid.uuid4().hex[:12]}"
        options = ("--network=none", *options) if not any(word.startswith("--network") for word in options) else options
        with self._secret(name, password) as secret:
            volume = f"--volume={self.volume}:{self.kind.volume}:nosuid,nodev,noexec"
            try:
                self.podman("run", "--detach", "--name", name, *CONFINED, volume, *secret, *options, self.image)
                yield Container(podman=self.podman, name=name, password=(password or "").rstrip("\n"))
            finally:
                self.podman("rm", "--force", "--time=0", "--ignore", name)

    @contextmanager
    def running(self, password: str, *options: str) -> Iterator[Container]:
        """A container that is healthy."""
        with self.starting(password, *options) as container:
            container.wait()
            yield container

    @contextmanager
    def _secret(self, name: str, password: str | None) -> Iterator[tuple[str, ...]]:
        if password is None:
            yield ()
            return
        file = self.folder / "password"
        file.write_text(password, "utf-8")
        self.podman("secret", "create", name, str(file))
        try:
            # the folder in memory: runc cannot make it on a read-only root
            options = f"{name},target={self.kind.secret},uid={self.kind.uid},gid={self.kind.uid},mode=0400"
            yield "--tmpfs=/run/secrets", f"--secret={options}"
        finally:
            self.podman("secret", "rm", name)


@contextmanager
def keeping(podman: Podman, image: str, kind: Kind, folder: Path) -> Iterator[Place]:
    """A fresh volume for containers of an image."""
    volume = f"buildkit-test-{uuid.uuid4().hex[:12]}"
    podman("volume", "create", volume)
    try:
        yield Place(podman=podman, image=image, kind=kind, volume=volume, folder=folder)
    finally:
        podman("volume", "rm", "--force", volume)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A stage's image in local storage, and the cache that it was built with."""

    id: str
    stage: str
    cache: Path


def build_image(podman: Podman, stage: str, factory: pytest.TempPathFactory) -> Image:
    """Build a stage, once for all processes of the suite."""
    cache = shared_folder(factory) / "databases"
    cache.mkdir(exist_ok=True)
    report = build(stage, cache).report
    known = podman.inspect(f"{report['image']}@{report['digest']}")
    return Image(id=str(known["Id"]), stage=stage, cache=cache)


def check_packages(image: Image, folder: Path) -> dict[str, str]:
    """Compare the SBOM with what syft finds in the image; return the licences of each package, as JSON."""
    copy = ("skopeo", "copy", "--quiet", f"containers-storage:{image.id}", f"oci:{folder}/image")
    subprocess.run(copy, check=True)
    _, document = run_json(image.cache, "sbom", image.stage)
    packages = [part for part in document["components"] if part.get("purl", "").startswith("pkg:deb/")]
    listed = {(part["name"], part["version"]) for part in packages}
    assert scan_image(f"oci-dir:{folder}/image", folder).packages("deb") == listed
    return {part["name"]: json.dumps(part.get("licenses", [])) for part in packages}
