"""The knowledge about layers that a run gains while it builds: their blobs, where those are, and which were built."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from types import MappingProxyType

from buildkit.digest import Key
from buildkit.oci.blob import LayerResult
from buildkit.plan.spec import Spec


class BuildState:
    """Results of layers by key; threads share it.

    ``results`` is a read-only live view: a layer is in it once its blobs are known, wherever they are.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._results: dict[Key, LayerResult] = {}
        self._only_remote: set[Key] = set()  # a subset of the results
        self._built: dict[Key, Spec] = {}
        self._found: set[Key] = set()
        self.results: Mapping[Key, LayerResult] = MappingProxyType(self._results)

    def is_known(self, key: Key) -> bool:
        """Return whether the blobs of a layer are known, here or in a remote cache."""
        return key in self._results

    def is_only_remote(self, key: Key) -> bool:
        """Return whether a remote cache has the layer's blobs and this host does not."""
        return key in self._only_remote

    def is_here(self, key: Key) -> bool:
        """Return whether this host has the layer's blobs, in the cache or in local storage."""
        return key in self._results and key not in self._only_remote

    def was_found(self, key: Key) -> bool:
        """Return whether another process built the layer after this one had planned to."""
        return key in self._found

    @property
    def built_now(self) -> dict[Key, Spec]:
        """The layers that this run built."""
        with self._lock:
            return dict(self._built)

    def learn(self, results: Mapping[Key, LayerResult], *, only_remote: bool = False) -> None:
        """Add results; ``only_remote`` where a remote cache alone has their blobs."""
        with self._lock:
            self._results.update(results)
            if only_remote:
                self._only_remote.update(results)
            else:
                self._only_remote.difference_update(results)

    def learn_found(self, results: Mapping[Key, LayerResult]) -> None:
        """Add results of another process, which built these layers after this one had planned to."""
        with self._lock:
            self._results.update(results)
            self._found.update(results)

    def learn_built(self, spec: Spec, result: LayerResult) -> None:
        """Add the result of a layer that this run built."""
        with self._lock:
            self._results[spec.key] = result
            self._built[spec.key] = spec

    def lose(self, key: Key) -> None:
        """Forget the result of a layer whose blobs are gone."""
        with self._lock:
            self._results.pop(key, None)
            self._only_remote.discard(key)

    def forget_results(self) -> None:
        """Forget every result, so that the next plan looks each of them up again."""
        with self._lock:
            self._results.clear()
            self._only_remote.clear()
