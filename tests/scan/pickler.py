"""Pickles for tests, written opcode by opcode, as no ordinary pickler writes them."""

from __future__ import annotations

import struct

from buildkit.findings import Severity
from buildkit.scan import BytesSource, Scan, ScanLimits, scan

PROTO = b"\x80\x04"
STOP = b"."
EVIL = b"cos\nsystem\nX\x02\x00\x00\x00id\x85R"


def scan_bytes(content: bytes, *allowed: str, limits: ScanLimits | None = None) -> Scan:
    """Scan content."""
    return scan("model.bin", BytesSource(content), limits=limits, allowed=frozenset(allowed))


def rules(found: Scan) -> set[str]:
    """Return the rule ids of all findings."""
    return {one.rule.id for one in found.findings}


def worst(found: Scan) -> Severity:
    """Return the worst severity of all findings."""
    return max((one.severity for one in found.findings), default=Severity.NOTE)


def describe(found: Scan) -> str:
    """Format all findings and gaps."""
    return "\n".join(
        [f"{one.member} {one.what}" for one in found.findings] + [f"{gap.member} {gap.why}" for gap in found.gaps]
    )


def text(value: str) -> bytes:
    """Push a text."""
    raw = value.encode()
    return b"\x8c" + bytes((len(raw),)) + raw if len(raw) < 256 else b"X" + struct.pack("<I", len(raw)) + raw


def data(value: bytes) -> bytes:
    """Push bytes."""
    return b"B" + struct.pack("<I", len(value)) + value


def number(value: int) -> bytes:
    """Push a number."""
    return b"J" + struct.pack("<i", value)


def named(module: str, name: str) -> bytes:
    """Push a global named by lines."""
    return f"c{module}\n{name}\n".encode()


def stacked(module: str, name: str) -> bytes:
    """Push a global named by texts."""
    return text(module) + text(name) + b"\x93"


def tuple_of(*values: bytes) -> bytes:
    """Push a tuple."""
    return b"(" + b"".join(values) + b"t"


def call(callee: bytes, *args: bytes) -> bytes:
    """Push the result of a call."""
    return callee + tuple_of(*args) + b"R"


def pickle_stream(body: bytes) -> bytes:
    """Return a whole stream."""
    return PROTO + body + STOP


def malicious_pickle(module: str = "os", name: str = "system", argument: str = "id") -> bytes:
    """Return a stream that runs a command."""
    return pickle_stream(call(named(module, name), text(argument)))
