"""Machines that share a registry: each with its own cache, home and storage, behind a counting proxy."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.e2e.tinyproject import SessionResult, Tiny
from tests.faultyproxy import FaultyProxy, Request
from tests.waiting import wait_until

_KINDS = (("manifest", "/manifests/"), ("upload", "/blobs/uploads/"), ("blob", "/blobs/"), ("ping", "/v2/$"))


def trust(tiny: Tiny, *hosts: str) -> None:
    """Allow a machine to connect without TLS to these hosts, and to no others."""
    text = "".join(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n' for host in hosts)
    (tiny.folder / "home/.config/containers/registries.conf").write_text(text)


def cut_off(tiny: Tiny, proxy: FaultyProxy) -> None:
    """Remove the wheels and the root's registry, so that only the remote cache is available."""
    shutil.rmtree(tiny.folder / "links")
    trust(tiny, proxy.host)


def forget(tiny: Tiny) -> None:
    """An empty cache: the machine is a fresh one, but for its storage."""
    shutil.rmtree(tiny.cache, ignore_errors=True)


def succeeded(ended: SessionResult) -> SessionResult:
    """Return the result of a session, which must have succeeded."""
    assert ended.code == 0, ended.text
    assert "Traceback" not in ended.text, ended.text
    return ended


def warnings(ended: SessionResult) -> list[str]:
    """Return the warnings of a session."""
    return [line.strip() for line in ended.text.splitlines() if line.startswith(" warning  ")]


def sources(ended: SessionResult) -> dict[str, str]:
    """Return the source of each layer, by name."""
    assert ended.report is not None, ended.text
    return {layer["name"]: layer["source"] for layer in ended.report["layers"]}


def digest(ended: SessionResult) -> str:
    """Return the pushed digest."""
    assert ended.report is not None, ended.text
    (only,) = {one["digest"] for one in ended.report["pushed"]}
    return str(only)


def kind_of(request: Request) -> str:
    """Return the kind of a request: ``GET manifest``, ``HEAD blob``, ``PATCH upload`` …"""
    return f"{request.method} {next(kind for kind, path in _KINDS if re.search(path, request.path))}"


def traffic(requests: Iterable[Request]) -> dict[str, int]:
    """Return the number of requests of each kind."""
    return dict(Counter(kind_of(one) for one in requests))


def uploaded(proxy: FaultyProxy) -> int:
    """Return the uploaded bytes."""
    return sum(one.up for one in proxy.requests)


def downloaded(proxy: FaultyProxy) -> int:
    """Return the downloaded bytes of blobs."""
    return sum(one.down for one in proxy.requests if kind_of(one) == "GET blob")


def read_manifest(tiny: Tiny, ref: str) -> dict[str, Any]:
    """Return a manifest of a registry."""
    found: dict[str, Any] = json.loads(tiny.tool("skopeo", "inspect", "--raw", f"docker://{ref}"))
    return found


def is_there(tiny: Tiny, ref: str) -> bool:
    """Whether a registry has a manifest of that name; the registry must answer."""
    argv = ("skopeo", "inspect", "--raw", f"docker://{ref}")
    done = subprocess.run(argv, env=tiny.env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 or "unknown" in done.stderr, done.stderr  # 1, since skopeo 1.16 2
    return done.returncode == 0


def pull(tiny: Tiny, ref: str, *argv: str) -> str:
    """Pull an image, with every byte verified, and return the output of its container."""
    return tiny.tool("podman", "run", "--rm", "--quiet", "--network=none", ref, *argv)


def put_entry(tiny: Tiny, folder: Path, ref: str, data: bytes, *blobs: bytes) -> None:
    """Push a manifest, with its blobs, under any tag."""
    folder.mkdir()
    for blob in blobs:
        (folder / hashlib.sha256(blob).hexdigest()).write_bytes(blob)
    (folder / "manifest.json").write_bytes(data)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    argv = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", f"dir:{folder}", f"docker://{ref}")
    subprocess.run(argv, env=tiny.env, check=True)


def interrupt_when(tiny: Tiny, session: tuple[str, ...], when: Callable[[], bool]) -> SessionResult:
    """Send SIGINT, as Ctrl-C does, once ``when`` holds, and wait for the end."""
    child = subprocess.Popen(
        tiny.argv(*session),
        cwd=tiny.folder,
        env=tiny.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: when() or child.poll() is not None)
    assert child.poll() is None, child.communicate()[0]
    os.killpg(child.pid, signal.SIGINT)
    text, _ = child.communicate(timeout=60)
    return SessionResult(code=child.returncode, text=text)
