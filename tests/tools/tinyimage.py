"""A small image made of the host's own bash and coreutils, for tests without network."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from buildkit.digest import DiffId, Digest
from buildkit.layers.root.pack import RootRules, pack_root
from buildkit.layers.tar.member import Compression
from buildkit.tools.buildah import Mounts, WorkingContainer, run_in
from buildkit.tools.process import Command, find_tool, run
from buildkit.tools.skopeo import copy_dir_to_storage

_FOLDERS = ("dev", "media", "mnt", "opt", "proc", "run", "sys", "tmp", "usr", "usr/bin", "usr/lib", "usr/lib64")
PROGRAMS = ("bash", "cat", "mkdir", "sleep", "touch")
_V2 = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar"


def import_tiny_image(folder: Path, ref: str, *, compressed: bool = False) -> DiffId:
    """Import the image as ``ref`` through the ``dir:`` layout that stays in ``folder``; its only layer's diff_id."""
    out = io.BytesIO()
    layer = pack_root([_make_tar(ref)], RootRules(), out, Compression.NONE).diff_id
    blob = gzip.compress(out.getvalue(), 1, mtime=0) if compressed else out.getvalue()
    config = json.dumps(
        {
            "architecture": "arm64" if os.uname().machine == "aarch64" else "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin"], "Healthcheck": {"Test": ["CMD", "true"]}},
            "rootfs": {"type": "layers", "diff_ids": [str(layer)]},
        }
    ).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": _V2,
        "config": {"mediaType": _CONFIG, "size": len(config), "digest": str(Digest.of(config))},
        "layers": [
            {
                "mediaType": f"{_LAYER}.gzip" if compressed else _LAYER,
                "size": len(blob),
                "digest": str(Digest.of(blob)),
            }
        ],
    }
    (folder / Digest.of(blob).hex).write_bytes(blob)
    (folder / Digest.of(config).hex).write_bytes(config)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "version").write_text("Directory Transport Version: 1.1\n")
    copy_dir_to_storage(folder, ref)
    return layer


def answer(container: WorkingContainer, script: str, *, network: bool = False, mounts: Mounts = ()) -> str:
    """Return what a bash script writes in a container, stripped, 64 KiB at most; `run_in` may lose some of it."""
    with TemporaryDirectory() as folder:
        os.mkfifo(f"{folder}/out")
        with os.fdopen(os.open(f"{folder}/out", os.O_RDONLY | os.O_NONBLOCK), "rb") as output:
            argv = ("/usr/bin/bash", "-c", f"exec >/mnt/out; {script}")
            run_in(container, argv, env={}, network=network, mounts=((Path(folder), "/mnt"), *mounts))
            return output.read().decode().strip()


def _make_tar(ref: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in _FOLDERS:
            tar.addfile(_entry(name, tarfile.DIRTYPE))
        for name in ("bin", "lib", "lib64", "sbin"):
            link = _entry(name, tarfile.SYMTYPE)
            link.linkname = "usr/bin" if name == "sbin" else f"usr/{name}"
            tar.addfile(link)
        _add_file(tar, "usr/lib/ref", ref.encode())  # no two tests share a layer that one of them removes
        for path in sorted(_files()):
            name = path.lstrip("/")
            _add_file(tar, name if name.startswith("usr/") else f"usr/{name}", Path(path).read_bytes())
    return out.getvalue()


def _add_file(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = _entry(name, tarfile.REGTYPE)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _entry(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755
    return info


def _files() -> set[str]:
    programs = {f"/usr/bin/{name}" for name in PROGRAMS if find_tool(name)}
    listed = "".join(run(Command(argv=("ldd", program))).text for program in programs)
    return programs | set(re.findall(r"(/\S+) \(0x", listed))
