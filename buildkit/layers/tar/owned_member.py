"""A member that can say who brought it."""

from __future__ import annotations

from dataclasses import dataclass

from buildkit.layers.tar.member import Member


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnedMember(Member):
    """A member out of a wheel; ``owner`` is the wheel's file name, for messages."""

    owner: str


def find_owner(member: Member) -> str:
    """The wheel's file name, or nothing."""
    return member.owner if isinstance(member, OwnedMember) else ""
