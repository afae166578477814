"""Wheels for changes: other versions of real wheels, and small new ones. Equal arguments give equal bytes."""

from __future__ import annotations

import base64
import hashlib
import random
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from buildkit.digest import FileHash
from buildkit.locks.pins import Artifact
from buildkit.locks.requirements_txt import normalise_name

_VERSION = re.compile(rb"^(Version:[ \t]*)[^\r\n]*", re.MULTILINE)
_TIME = (1980, 1, 1, 0, 0, 0)
_WHEEL = "Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def marker_file(name: str) -> str:
    """Return the file, relative to site-packages, that tells which version of a wheel an image has."""
    return f"bench_{normalise_name(name).replace('-', '_')}.txt"


def make_version(wheel: Path, artifact: Artifact, number: int, folder: Path) -> Artifact:
    """Write another version of a wheel into ``folder``, as an upgrade would bring it.

    It has all files of the original under a new version, and one more, `marker_file`.
    """
    version = f"{artifact.version.partition('+')[0]}+bench{number}"
    with zipfile.ZipFile(wheel) as old:
        info = next(name.partition("/")[0] for name in old.namelist() if name.endswith(".dist-info/RECORD"))
        distribution = info.removesuffix(".dist-info").rpartition("-")[0]
        fresh = f"{distribution}-{version}.dist-info"
        tags = wheel.name.removesuffix(".whl").split("-", 2)[2]
        path = folder / f"{distribution}-{version}-{tags}.whl"
        marker = marker_file(artifact.name)
        files = _renamed(old, info, fresh, version, marker)
        _write(path, fresh, (*files, (marker, f"{version}\n".encode(), 0o644)))
    return describe_wheel(path, artifact.name, version)


def make_small_wheel(name: str, version: str, size: int, folder: Path, *, seed: int = 0) -> Artifact:
    """Write a wheel with one module and about ``size`` bytes of incompressible data."""
    distribution = normalise_name(name).replace("-", "_")
    info = f"{distribution}-{version}.dist-info"
    data = random.Random(f"{name}{version}{seed}").randbytes(size)
    files = (
        (f"{distribution}/__init__.py", f'VERSION = "{version}"\n'.encode(), 0o644),
        (f"{distribution}/data.bin", data, 0o644),
        (marker_file(name), f"{version}\n".encode(), 0o644),
        (f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n".encode(), 0o644),
        (f"{info}/WHEEL", _WHEEL.encode(), 0o644),
    )
    path = folder / f"{distribution}-{version}-py3-none-any.whl"
    _write(path, info, files)
    return describe_wheel(path, name, version)


def describe_wheel(path: Path, name: str, version: str) -> Artifact:
    """Return a wheel file as a lock describes it."""
    with path.open("rb") as file:
        digest = FileHash(hashlib.file_digest(file, "sha256").hexdigest())
    return Artifact(
        name=normalise_name(name), version=version, file=path.name, sha256=digest, size=path.stat().st_size
    )  # fmt: skip


def _renamed(
    old: zipfile.ZipFile, info: str, fresh: str, version: str, marker: str
) -> Iterator[tuple[str, bytes, int]]:
    for entry in old.infolist():
        if entry.is_dir() or entry.filename in (f"{info}/RECORD", marker):
            continue
        data, name = old.read(entry), entry.filename
        if name == f"{info}/METADATA":
            data = _VERSION.sub(lambda match: match[1] + version.encode(), data, count=1)
        if name.startswith(f"{info}/"):
            name = fresh + name.removeprefix(info)
        yield name, data, entry.external_attr >> 16 or 0o644


def _write(path: Path, info: str, files: Iterable[tuple[str, bytes, int]]) -> None:
    rows = []
    partial = path.with_suffix(".part")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in files:
            _add(archive, name, data, mode)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
            rows.append(
                f'"{name}",sha256={digest},{len(data)}\n' if "," in name else f"{name},sha256={digest},{len(data)}\n"
            )
        _add(archive, f"{info}/RECORD", ("".join(rows) + f"{info}/RECORD,,\n").encode(), 0o644)
    partial.rename(path)


def _add(archive: zipfile.ZipFile, name: str, data: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100000 | mode & 0o777) << 16
    archive.writestr(entry, data)
