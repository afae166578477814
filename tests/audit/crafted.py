"""Images for the audit, made of crafted tars: a good one, and additions that cause findings."""

from __future__ import annotations

import io
import json
import struct
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from buildkit.audit.audit import check_image
from buildkit.audit.config import parse_config
from buildkit.audit.entry_scripts import script_names
from buildkit.audit.read import ImageLimits, LayerReader
from buildkit.audit.view import ImageOrigin, ImageView
from buildkit.findings import Finding

PASSWD = b"root:x:0:0:root:/root:/usr/sbin/nologin\nmluser:x:1000:1000::/nonexistent:/usr/sbin/nologin\n"
PINNED = "sha256:" + "5" * 64
CONFIG: dict[str, Any] = {
    "User": "1000",
    "WorkingDir": "/app",
    "Cmd": ["python3", "main.py"],
    "Env": ["PATH=/opt/venv/bin:/usr/bin:/bin", "PYTHONUNBUFFERED=1"],
    "ExposedPorts": {"8000/tcp": {}},
    "Healthcheck": {"Test": ["CMD", "python3", "/app/health.py"]},
    "Labels": {
        "org.opencontainers.image.title": "tiny/app",
        "org.opencontainers.image.description": "an image",
        "org.opencontainers.image.base.digest": PINNED,
    },
}


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member of a crafted tar; ``data`` is a file's content, ``link`` where a link leads."""

    path: str
    data: bytes = b""
    kind: bytes = tarfile.REGTYPE
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    link: str = ""
    device: tuple[int, int] = (0, 0)
    pax: dict[str, bytes] = field(default_factory=dict)


def file(path: str, data: bytes = b"", mode: int = 0o644, **more: Any) -> Member:
    return Member(path=path, data=data, mode=mode, **more)


def folder(path: str, mode: int = 0o755, **more: Any) -> Member:
    return Member(path=path, kind=tarfile.DIRTYPE, mode=mode, **more)


def link(path: str, target: str) -> Member:
    return Member(path=path, kind=tarfile.SYMTYPE, link=target, mode=0o777)


def program(path: str, **more: Any) -> Member:
    return file(path, b"#!/opt/venv/bin/python3\n", 0o755, **more)


def capable(path: str, *numbers: int, effective: bool = True) -> Member:
    """A program with file capabilities (revision 2)."""
    bits = sum(1 << number for number in numbers)
    value = struct.pack("<5I", 2 << 24 | effective, bits & 0xFFFFFFFF, 0, bits >> 32, 0)
    return replace(program(path), pax={"SCHILY.xattr.security.capability": value})


GOOD = (
    folder("app"),
    file("app/health.py", b"import urllib.request\n"),
    file("app/main.py", b"print('hello')\n"),
    link("bin", "usr/bin"),
    folder("etc"),
    file("etc/group", b"root:x:0:\nmluser:x:1000:\nshadow:x:42:\n"),
    file("etc/passwd", PASSWD),
    file("etc/shadow", b"root:*:1::::::\nmluser:!:1::::::\n", 0o640, gid=42),
    file("opt/venv/pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = false\n"),
    link("opt/venv/bin/python3", "/usr/bin/python3.13"),
    folder("opt/venv/lib/python3.13/site-packages"),
    file("opt/venv/lib/python3.13/site-packages/alpha.py", b"x = 1\n"),
    folder("tmp", 0o1777),
    file("usr/bin/python3.13", b"#!/nothing\n", 0o755),
)  # fmt: skip


def tar(members: Iterable[Member]) -> bytes:
    """Return a tar of members, with their names unchanged."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            info = tarfile.TarInfo(one.path)
            info.type, info.mode, info.uid, info.gid, info.linkname = one.kind, one.mode, one.uid, one.gid, one.link
            info.devmajor, info.devminor = one.device
            info.size = len(one.data)
            # tarfile writes records as UTF-8; surrogates let any bytes through
            info.pax_headers = {key: value.decode("utf-8", "surrogateescape") for key, value in one.pax.items()}
            archive.addfile(info, io.BytesIO(one.data))
    return out.getvalue()


def make_view(
    *layers: Iterable[Member] | bytes,
    config: dict[str, Any] | None = None,
    history: list[dict[str, Any]] | None = None,
    origin: ImageOrigin | None = None,
    limits: ImageLimits | None = None,
) -> ImageView:
    """Return the view of layers, lowest first; ``config`` replaces keys of CONFIG."""
    runs = {key: value for key, value in (CONFIG | (config or {})).items() if value is not None}
    whole = {"config": runs, "history": history or [], "architecture": "amd64"}
    parsed = parse_config(json.dumps(whole).encode(), "crafted")
    reader = LayerReader(limits=limits or ImageLimits(), scripts=script_names(parsed))
    views = []
    for number, layer in enumerate(layers):
        data = layer if isinstance(layer, bytes) else tar(layer)
        chunks = (data[at : at + 1000] for at in range(0, len(data), 1000))
        views.append(reader.read(chunks, f"sha256:{number:064x}", number))
    return ImageView(name="crafted", config=parsed, layers=tuple(views), origin=origin or ImageOrigin())


def audit(*layers: Iterable[Member] | bytes, **more: Any) -> tuple[Finding, ...]:
    """Return the findings of the good image with more layers on it."""
    return check_image(make_view(GOOD, *layers, **more))


def ids(findings: Iterable[Finding]) -> set[str]:
    return {finding.rule.id for finding in findings}


def env(*lines: str) -> dict[str, Any]:
    """Return a config with more environment."""
    return {"Env": [*CONFIG["Env"], *lines]}
