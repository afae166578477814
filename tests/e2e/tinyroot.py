"""A root of a few megabytes made of the host's own bash and coreutils, and how to push it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAMS = ("bash", "cat", "env", "id", "ls", "mkdir", "sleep", "touch")
_PYTHON, _NO_PYTHON = "/usr/bin/python3.13", b"#!/bin/sh\nexit 1\n"  # in the place of the images' interpreter
_FOLDERS = ("dev", "etc", "home", "mnt", "opt", "proc", "run", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64")
_OCI = "application/vnd.oci.image"


@dataclass(frozen=True, kw_only=True)
class RootSpecimen:
    """What a root is: its name, ``more`` programs and files of the host, and ``files`` by path."""

    name: str = "tiny/root"
    more: tuple[Path, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)


def push_root(registry: str, folder: Path, env: Mapping[str, str], more: Iterable[Path] = ()) -> str:
    """Push the root, with ``more`` programs and files of the host; returns its name pinned by digest."""
    return push_specimen(registry, folder, env, RootSpecimen(more=tuple(more)))


def push_specimen(registry: str, folder: Path, env: Mapping[str, str], root: RootSpecimen) -> str:
    """Push a root; returns its name pinned by digest."""
    layer = make_root_tar(root.more, root.files)
    config = json.dumps(
        {
            "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin", "FROM_ROOT=yes"], "User": "1234", "Labels": {"from.root": "yes"}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{_sha256(layer)}"]},
            "history": [{"created_by": "a test"}],  # buildah builds nothing with layers on an image without
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{_OCI}.manifest.v1+json",
            "config": _described(f"{_OCI}.config.v1+json", config),
            "layers": [_described(f"{_OCI}.layer.v1.tar", layer)],
        }
    ).encode()
    for name, data in ((_sha256(layer), layer), (_sha256(config), config), ("manifest.json", manifest)):
        (folder / name).write_bytes(data)
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    name = f"{registry}/{root.name}"
    argv = ("skopeo", "--insecure-policy", "copy", "--quiet", "--preserve-digests", f"dir:{folder}", f"docker://{name}")
    subprocess.run(argv, env=env, check=True)
    return f"{name.rpartition(':')[0] if ':' in root.name else name}@sha256:{_sha256(manifest)}"


def _described(kind: str, data: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(data), "digest": f"sha256:{_sha256(data)}"}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_root_tar(more: Sequence[Path] = (), files: Mapping[str, bytes] | None = None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _FOLDERS:
            tar.addfile(_entry(name, tarfile.DIRTYPE))
        links = {"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/bin", "usr/bin/sh": "bash"}
        for name, target in links.items():
            link = _entry(name, tarfile.SYMTYPE)
            link.linkname = target
            tar.addfile(link)
        merged = ("bin/", "lib/", "lib64/")  # links, above
        for path in sorted({*_files(more), *map(str, more)}):
            name = path.lstrip("/")
            info = _entry(f"usr/{name}" if name.startswith(merged) else name, tarfile.REGTYPE)
            data = Path(path).read_bytes()
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for name, data in (files or {}).items():
            info = _entry(name, tarfile.REGTYPE)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        if _PYTHON not in map(str, more):
            info = _entry(_PYTHON.lstrip("/"), tarfile.REGTYPE)
            info.size = len(_NO_PYTHON)
            tar.addfile(info, io.BytesIO(_NO_PYTHON))
    return out.getvalue()


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.mode = 0o1777 if name == "tmp" else 0o755
    return info


def _files(more: Sequence[Path]) -> set[str]:
    programs = {found for name in PROGRAMS if (found := shutil.which(name, path="/usr/bin:/bin"))}
    linked = [str(path) for path in more if path.suffix != ".py"]
    listed = subprocess.run(("ldd", *sorted(programs), *linked), capture_output=True, text=True, check=True).stdout
    libraries = set(re.findall(r"(/\S+) \(0x", listed))
    return {f"/usr/bin/{Path(program).name}" for program in programs} | libraries
