"""File capabilities: parse and format ``security.capability`` (linux/capability.h, capabilities(7))."""

from __future__ import annotations

import struct

NAMES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip
"""Names of capabilities, by number."""

HARMLESS = frozenset(("net_bind_service",))
"""Capabilities that services are given on purpose, and that lead nowhere."""

_SIZES = {1: 12, 2: 20, 3: 24}
_EFFECTIVE = 1


def decode_capabilities(data: bytes) -> tuple[frozenset[str], frozenset[str], bool] | None:
    """Return permitted and inheritable capabilities by name, and whether they are effective at once; None if malformed.

    ``data`` is a ``struct vfs_cap_data``, little-endian: revision 1 (one 32-bit set), 2 (two), or 3 (two, and the root
    of the user namespace).
    """
    if len(data) < 4:
        return None
    (magic,) = struct.unpack_from("<I", data)
    revision = magic >> 24
    if _SIZES.get(revision) != len(data):
        return None
    words = struct.unpack_from(f"<{4 if revision > 1 else 2}I", data, 4)
    permitted = words[0] | (words[2] << 32 if revision > 1 else 0)
    inheritable = words[1] | (words[3] << 32 if revision > 1 else 0)
    return _names(permitted), _names(inheritable), bool(magic & _EFFECTIVE)


def format_capabilities(data: bytes) -> str:
    """Format as getcap(8) does, ``cap_net_raw=ep``; an unreadable value is described."""
    decoded = decode_capabilities(data)
    if decoded is None:
        return f"a value that cannot be read ({data[:32].hex()})"
    permitted, inheritable, effective = decoded
    flags = "e" * effective + "i" * bool(inheritable) + "p" * bool(permitted)
    named = ",".join(f"cap_{name}" for name in _in_order(permitted | inheritable))
    return f"{named or 'none'}={flags}"


def _in_order(names: frozenset[str]) -> list[str]:
    return sorted(names, key=lambda name: (NAMES.index(name) if name in NAMES else len(NAMES), name))


def _names(bits: int) -> frozenset[str]:
    return frozenset(
        NAMES[number] if number < len(NAMES) else str(number) for number in range(64) if bits >> number & 1
    )
