"""What composing asks of a checkout; who answers reads files, or is a fake."""

from __future__ import annotations

from typing import Protocol

from buildkit.locks.pins import AptPin, Artifact, Model, Pin
from buildkit.plan.spec import Tree


class Checkout(Protocol):
    """What committed text says; each answer raises DefinitionError where it cannot be had."""

    def artifacts(self, lock: str) -> tuple[Artifact, ...]:
        """Distributions of a requirements lock that apply to the target."""

    def pins(self, lock: str) -> tuple[Pin, ...]:
        """Pins of a requirements lock that apply to the target, with their lines."""

    def apt(self, packages: str) -> tuple[AptPin, ...]:
        """Pins of the lock beside an apt list."""

    def models(self, lock: str) -> tuple[Model, ...]:
        """Models of a models lock."""

    def tree(self, path: str) -> Tree:
        """Files below a path of the repository."""
