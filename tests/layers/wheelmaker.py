"""Make wheels for tests, well-formed by default."""

import base64
import hashlib
import io
import stat
import tarfile
import zipfile
from pathlib import Path

from buildkit.layers.tar.member import Compression
from buildkit.layers.tar.writer import write_layer

NAME, VERSION = "demo_pkg", "1.0"
INFO = f"{NAME}-{VERSION}.dist-info"
DATA = f"{NAME}-{VERSION}.data"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
METADATA = f"Metadata-Version: 2.1\nName: demo-pkg\nVersion: {VERSION}\n\nWords.\n"


def make_wheel(folder: Path, files=None, *, name=NAME, version=VERSION, record=None, executable=(), **changes):
    """A wheel with ``files`` (path → bytes); ``changes`` replace a metadata file, or leave it out if None.

    ``record`` changes the rows of RECORD before they are written (path → (hash, size)).
    """
    info = f"{name}-{version}.dist-info"
    texts = {"METADATA": METADATA, "WHEEL": WHEEL, **changes}
    everything = dict(files or {})
    everything |= {
        f"{info}/{path}": text.encode() for path, text in texts.items() if text is not None and path != "RECORD"
    }
    rows = {path: (f"sha256={hashed(data)}", str(len(data))) for path, data in everything.items()}
    rows |= record or {}
    if texts.get("RECORD", "") is not None:
        made = "".join(f"{path},{row[0]},{row[1]}\n" for path, row in rows.items()) + f"{info}/RECORD,,\n"
        everything[f"{info}/RECORD"] = (texts.get("RECORD") or made).encode()
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in everything.items():
            entry = zipfile.ZipInfo(member)
            entry.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if member in executable else 0o644
            entry.external_attr = (stat.S_IFREG | mode) << 16
            archive.writestr(entry, data)
    return path


def append(wheel: Path, name: str, data: bytes, mode=stat.S_IFREG | 0o644, method=zipfile.ZIP_DEFLATED):
    """Add a member that no well-meaning tool would."""
    entry = zipfile.ZipInfo("placeholder")
    entry.filename = name
    entry.external_attr = mode << 16
    entry.compress_type = method
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr(entry, data)
    return wheel


def patch_headers(wheel: Path, member: str, offset: int, value: bytes, *, local=True, central=True):
    """Overwrite ``value`` at ``offset`` (of the central header; the local one starts two bytes sooner)."""
    data = bytearray(wheel.read_bytes())
    name = member.encode()
    with zipfile.ZipFile(wheel) as archive:
        start = archive.getinfo(member).header_offset
    if local:
        data[start + offset - 2 : start + offset - 2 + len(value)] = value
    if central:
        at = data.rindex(name, data.index(b"PK\1\2")) - 46
        data[at + offset : at + offset + len(value)] = value
    wheel.write_bytes(data)
    return wheel


def hashed(data: bytes, algorithm="sha256") -> str:
    return base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).decode().rstrip("=")


def read_layer(members, compression="none"):
    """What `write_layer` makes of members: path → (data or link target, executable), and what it said."""
    out = io.BytesIO()
    packed = write_layer(members, out, Compression(compression))
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        found = {
            entry.name: (entry.linkname if entry.issym() else tar.extractfile(entry).read(), entry.mode == 0o755)
            for entry in tar
            if not entry.isdir()
        }
    return found, packed
