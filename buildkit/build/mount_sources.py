"""Which other repository of a registry has a blob, so that the registry links it and nothing goes up."""

from __future__ import annotations

from functools import cached_property

from buildkit.build.context import BuildContext
from buildkit.digest import Digest
from buildkit.oci.reference import Ref


class MountSources:
    """Where else the registry of ``ref`` may have blobs: where they were pushed to or pulled from, or a cache."""

    def __init__(self, context: BuildContext, ref: Ref) -> None:
        self._context = context
        self._ref = ref

    @cached_property
    def _cache(self) -> str:
        others = (ref for ref in self._context.remote_cache.repositories if ref.host == self._ref.host)
        return next((ref.repository for ref in others), "")

    def find(self, digest: Digest) -> str:
        """Return the path of another repository that may have a blob; empty for none."""
        repository = self._context.ledger.remote_blobs.find_repository(self._ref.host, digest) or self._cache
        return repository.partition("/")[2] if repository != self._ref.repository else ""
