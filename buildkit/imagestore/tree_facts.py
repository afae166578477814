"""What is known of a tree, and the names of its parts while it is written."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Self

from buildkit.lazy_dataclass import dataclass

TREE, TAR_SPLIT, FACTS = "tree", "tar-split.gz", "facts.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFacts:
    """What is known of a tree: bytes of its tar, number of members, owners.

    ``plain``: its user can read and remove it without a namespace.
    """

    unpacked: int
    members: int
    uids: tuple[int, ...]
    gids: tuple[int, ...]
    plain: bool

    def to_json(self) -> bytes:
        """Return the facts as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read facts; raises ValueError."""
        try:
            value = json.loads(data)
            facts = cls(**{**value, "uids": tuple(value["uids"]), "gids": tuple(value["gids"])})
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError("these are no facts of a tree") from error
        numbers = (facts.unpacked, facts.members, *facts.uids, *facts.gids)
        if {*map(type, numbers)} != {int} or type(facts.plain) is not bool:
            raise ValueError("these are no facts of a tree")
        return facts
