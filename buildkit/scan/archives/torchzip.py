"""Kinds of zip archives, by their members, and members that need no scan of their own.

PyTorch's archives (``torch/serialization.py``, ``caffe2/serialize``) hold ``PREFIX/data.pkl`` and ``PREFIX/data/N`` for
tensors; TorchScript's also ``PREFIX/code/…`` and ``PREFIX/constants.pkl`` with ``PREFIX/constants/N``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.archives import rules
from buildkit.scan.context import Declared, ScanContext
from buildkit.scan.pickle.net import find_calls_at_start
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.source import ScanSource

TENSOR = re.compile(r"(.*/)?(data|constants|xl_data)/\d+")
LABEL = re.compile(r"(.*/)?(version|byteorder|\.format_version|\.storage_alignment|\.data/(serialization_id|version))")
LABEL_BYTES = 64
CODE = re.compile(r"(.*/)?code/.*\.py")
SCRIPT = "TorchScript"
LONGEST = 64 * 2**20
FILE_OPERATORS = re.compile(rb"\b(?:torch|ops\.aten)\.(?:save|load|from_file)\b")


@dataclass(frozen=True, slots=True)
class ArchiveKind:
    """The formats that an archive's members reveal; ``roots`` are the folders that hold PyTorch's members."""

    formats: tuple[str, ...] = ()
    roots: frozenset[str] = frozenset()


def detect_kind(members: Iterable[str]) -> ArchiveKind:
    """Return the kind of an archive with these members."""
    names = list(members)
    roots = frozenset(name.removesuffix("data.pkl") for name in names if name.rpartition("/")[2] == "data.pkl")
    formats = []
    if roots:
        script = any(name.startswith(tuple(f"{root}code/" for root in roots)) for name in names)
        formats.append(SCRIPT if script else "PyTorch")
    if any(name.endswith("MAR-INF/MANIFEST.json") for name in names):
        formats.append("TorchServe archive")
    if names and all(name.endswith(".npy") for name in names):
        formats.append("NumPy archive")
    return ArchiveKind(tuple(formats), roots)


def find_declaration(kind: ArchiveKind, name: str) -> Declared:
    """Return what PyTorch takes a member for: the pickles of its archives are read by an unpickler, as they are."""
    root, _, file = name.rpartition("/")
    inside = f"{root}/" in kind.roots or (not root and "" in kind.roots)
    return Declared.PICKLE_STREAM if inside and file.endswith(".pkl") else Declared.NOTHING


def scan_known_member(context: ScanContext, kind: ArchiveKind, name: str, content: ScanSource) -> bool:
    """Scan a member of PyTorch's that no loader would run; False if the member is not such."""
    if not any(name.startswith(root) for root in kind.roots):
        return False
    if CODE.fullmatch(name) and SCRIPT in kind.formats:
        return scan_code(context, name, content)
    if LABEL.fullmatch(name):
        text = content.read(0, LABEL_BYTES + 1)
        return len(text) <= LABEL_BYTES and text.isascii() and text.decode().strip().isprintable()
    if not TENSOR.fullmatch(name) or content.read(0, 4) == b"PK\x03\x04":
        return False
    return not is_pickle(content, nested=True, numbers=True) and not find_calls_at_start(content)


def scan_code(context: ScanContext, name: str, content: ScanSource) -> bool:
    """Scan TorchScript's code, which its own interpreter runs: no imports, but operators that access files."""
    if content.size > LONGEST:
        return False
    code = content.read(0, content.size)
    if b"\0" in code:
        return False
    for found in FILE_OPERATORS.finditer(code):
        context.find(rules.SCRIPT_FILES, f"{name} calls {found[0].decode()}", offset=found.start())
    return True
