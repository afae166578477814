"""Who gets which version: users fall into a thousand buckets, and versions own ranges of them.

The same user always falls into the same bucket, so a version that grows keeps the users that it has. HAProxy computes
the same (``sdbm(1),mod(1000)``): the hash and its avalanche are those of its src/hash.c and include/haproxy/tools.h.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.rollout.proxied import ProxyPool

BUCKETS = 1000
_WORD = 0xFFFFFFFF


def find_bucket(user: str, *, salt: str = "") -> int:
    """Return the bucket of a user, 0 to 999."""
    value = 0
    for byte in salted_key(salt).encode() + user.encode("utf-8", "surrogateescape"):
        value = (byte + (value << 6) + (value << 16) - value) & _WORD
    return _avalanche(value) % BUCKETS


def salted_key(salt: str) -> str:
    """Return what stands before a user in the key that is hashed."""
    return f"{salt}:" if salt else ""


def _avalanche(value: int) -> int:
    value = (value + 0x7ED55D16 + (value << 12)) & _WORD
    value = (value ^ 0xC761C23C ^ (value >> 19)) & _WORD
    value = (value + 0x165667B1 + (value << 5)) & _WORD
    value = ((value + 0xD3A2646C) ^ (value << 9)) & _WORD
    value = (value + 0xFD7046C5 + (value << 3)) & _WORD
    return ((value ^ 0xB55A4F09 ^ (value >> 16)) * 3221225473) & _WORD


def find_edges(pools: Sequence[ProxyPool]) -> Iterator[tuple[ProxyPool, int]]:
    """Yield each pool but the first with the bucket at which its range ends; the next one's begins there.

    The last one grows at the cost of the first alone. Raises ValueError if the shares are more than there is.
    """
    edge = 0
    for pool in pools[1:]:
        edge += pool.share
        if pool.share < 0 or edge > BUCKETS:
            raise ValueError(f"the shares of the versions add up to more than {BUCKETS / 10:g} %")
        yield pool, edge


def choose_pool(pools: Sequence[ProxyPool], bucket: int) -> ProxyPool:
    """Return the pool that serves a bucket."""
    return next((pool for pool, edge in find_edges(pools) if bucket < edge), pools[0])
