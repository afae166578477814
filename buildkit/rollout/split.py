"""Who gets which version: users fall into a thousand buckets, and versions own ranges of them.

The same user always falls into the same bucket, so a version that grows keeps the users that it has. HAProxy computes
the bucket, ``sdbm(1),mod(1000)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from buildkit.rollout.proxied import ProxyPool

BUCKETS = 1000


def salted_key(salt: str) -> str:
    """Return what stands before a user in the key that is hashed."""
    return f"{salt}:" if salt else ""


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
