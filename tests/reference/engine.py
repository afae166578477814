"""podman and the contents of images, by the real podman."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildkit.running.seccomp import PROFILE
from tests.waiting import wait_until

CONFINED = (
    "--read-only", "--read-only-tmpfs=false", "--tmpfs=/dev/shm:ro,nosuid,nodev,noexec,size=4k", "--cap-drop=all",
    "--security-opt=no-new-privileges", f"--security-opt=seccomp={PROFILE}",
)  # fmt: skip

_WALK = """
import json, os, stat, sys
found = []
for parent, folders, files in os.walk("/image"):
    for name in folders + files:
        path = os.path.join(parent, name)
        about = os.lstat(path)
        plain = stat.S_ISREG(about.st_mode)
        with open(path if plain else os.devnull, "rb") as file:
            head = file.read(64)
        found.append({
            "path": path[len("/image/"):], "mode": about.st_mode, "uid": about.st_uid, "size": about.st_size,
            "head": head.decode("latin-1"), "link": os.readlink(path) if stat.S_ISLNK(about.st_mode) else "",
        })
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, folder or link of an image; ``head`` are the first 64 bytes of a file."""

    path: str
    mode: int
    uid: int
    size: int
    head: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Podman:
    """podman in the environment that this host needs."""

    env: Mapping[str, str]

    def __call__(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Run podman and return its standard output; fail with all its output."""
        done = subprocess.run(["podman", *arguments], env=dict(self.env), capture_output=True, text=True)
        assert done.returncode in accept, f"podman {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def inspect(self, image: str) -> dict[str, Any]:
        """Return podman's data about an image."""
        (known,) = json.loads(self("image", "inspect", image))
        return dict(known)

    def python(self, image: str, code: str, *options: str) -> Any:
        """Return the JSON that Python code prints in a container of the image."""
        return json.loads(self("run", "--rm", "--network=none", *options, image, "python", "-c", code))

    def walk(self, image: str, visitor: str) -> list[Entry]:
        """Return all files of an image, listed by Python in a container of another image."""
        mount = f"type=image,source={image},destination=/image"
        argv = ("run", "--rm", "--network=none", "--user=0", "--mount", mount, visitor, "python3", "-c", _WALK)
        return [Entry(**entry) for entry in json.loads(self(*argv))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running container of the service."""

    podman: Podman
    container: str
    port: int

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body; (0, b"") while nobody listens."""
        return self._ask("GET", path, b"", "")

    def find_speech(self, path: Path) -> dict[str, Any]:
        """The answer for an audio file."""
        kind = {"wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg"}[path.suffix[1:]]
        status, body = self._ask("POST", "/v1/speech", path.read_bytes(), kind)
        assert status == 200, body
        return dict(json.loads(body))

    def wait(self) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self.get("/readyz")[0] == 200, lambda: self.podman("logs", self.container))

    def _ask(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (ConnectionError, http.client.HTTPException):
            if body:
                raise
            return 0, b""
        finally:
            connection.close()


@contextmanager
def serving(podman: Podman, image: str, *options: str) -> Iterator[Service]:
    """The service in a container that may do as little as possible, published on loopback."""
    argv = ("run", "--detach", *CONFINED, "--publish", "127.0.0.1::8000", *options, image)
    container = podman(*argv).strip()
    try:
        port = int(podman("port", container, "8000/tcp").strip().rpartition(":")[2])
        yield Service(podman=podman, container=container, port=port)
    finally:
        podman("rm", "--force", "--time=5", container)
