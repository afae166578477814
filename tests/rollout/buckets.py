"""HAProxy's ``sdbm(1),mod(1000)`` by hand: the hash and its avalanche are those of its src/hash.c and tools.h."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.rollout.proxied import ProxyPool
from buildkit.rollout.split import BUCKETS, find_edges, salted_key

_WORD = 0xFFFFFFFF


def find_bucket(user: str, *, salt: str = "") -> int:
    """Return the bucket of a user, 0 to 999."""
    value = 0
    for byte in salted_key(salt).encode() + user.encode("utf-8", "surrogateescape"):
        value = (byte + (value << 6) + (value << 16) - value) & _WORD
    return _avalanche(value) % BUCKETS


def _avalanche(value: int) -> int:
    value = (value + 0x7ED55D16 + (value << 12)) & _WORD
    value = (value ^ 0xC761C23C ^ (value >> 19)) & _WORD
    value = (value + 0x165667B1 + (value << 5)) & _WORD
    value = ((value + 0xD3A2646C) ^ (value << 9)) & _WORD
    value = (value + 0xFD7046C5 + (value << 3)) & _WORD
    return ((value ^ 0xB55A4F09 ^ (value >> 16)) * 3221225473) & _WORD


def choose_pool(pools: Sequence[ProxyPool], bucket: int) -> ProxyPool:
    """Return the pool that serves a bucket."""
    return next((pool for pool, edge in find_edges(pools) if bucket < edge), pools[0])
