"""unearth's finder for pins: it reads nothing of a link whose page says another hash than the pins have.

Judging the names, the tags and the Requires-Python of every file that a project ever had took most of the CPU time of
choosing files. The result is the same: unearth drops files with other hashes after it has judged them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from unearth import Link, Package, PackageFinder
from unearth.evaluator import Evaluator


class PinFinder(PackageFinder):
    """Finds files with one of ``hashes`` (SHA-256, hexadecimal), or of an unknown hash, where ``like`` finds any."""

    def __init__(self, like: PackageFinder, hashes: Iterable[str]) -> None:
        super().__init__(like.session, target_python=like.target_python, ignore_compatibility=like.ignore_compatibility)
        self.sources[:] = like.sources
        self._wanted = frozenset(hashes)

    def build_evaluator(self, package_name: str, allow_yanked: bool = False) -> Evaluator:  # noqa: D102 - unearth's
        made = super().build_evaluator(package_name, allow_yanked)
        values = {field.name: getattr(made, field.name) for field in fields(Evaluator)}
        return _PinEvaluator(**values, wanted=self._wanted)


@dataclass
class _PinEvaluator(Evaluator):
    wanted: frozenset[str] = frozenset()

    def evaluate_link(self, link: Link) -> Package | None:
        hashes = (link.hash_option or {}).get("sha256")
        if hashes and hashes[0] not in self.wanted:
            return None
        return super().evaluate_link(link)
