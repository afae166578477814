"""Registries, by our own client (`tools.distribution`) or, where that does not know what is set, by skopeo.

Both have the same errors and retries, and push and fetch the same bytes. Configs alone are read by skopeo.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Set
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from buildkit.digest import Digest
from buildkit.errors import RegistryError
from buildkit.oci.reference import Ref
from buildkit.tools.arriving_files import ArrivingFiles
from buildkit.tools.growing_blob import GrowingBlob
from buildkit.tools.process import stop_all
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry_errors import TIMEOUTS, RegistryTimeouts
from buildkit.tools.skopeo_registry import SkopeoRegistry
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.tools.distribution.repository import DistributionRepository

_Result = TypeVar("_Result")

CLIENT = "BUILDKIT_REGISTRY_CLIENT"
"""The environment variable that makes skopeo do everything if it is `skopeo`."""
_ASKED_AT_ONCE = 8
_IMPATIENT = RegistryTimeouts(look=10.0, waits=())
_PLAIN = PushDetails()


class _Repositories:
    """The repositories that a client has used, each with its connections and log-in; threads share them."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop = stop
        self._lock = threading.Lock()
        self._open: dict[str, DistributionRepository] = {}
        self.left: dict[str, str] = {}  # to skopeo, with the reason

    def open(self, ref: Ref) -> DistributionRepository:
        """Return the access to a repository; raises LeftToSkopeo."""
        from buildkit.tools.distribution.repository import open_repository

        with self._lock:
            if ref.repository not in self._open:
                self._open[ref.repository] = open_repository(ref, self._stop)
            return self._open[ref.repository]


class RegistryClient:
    """Reads from and writes to registries; ``stop`` ends waiting for them.

    All methods raise RegistryError, ToolError or Interrupted.
    """

    def __init__(self, stop: threading.Event, timeouts: RegistryTimeouts = TIMEOUTS) -> None:
        self.stop = stop
        self.timeouts = timeouts
        self._repositories = _Repositories(stop)

    def with_timeouts(self, timeouts: RegistryTimeouts) -> RegistryClient:
        """Return a client with the same connections and log-ins, but other time limits."""
        other = RegistryClient(self.stop, timeouts)
        other._repositories = self._repositories
        return other

    def without_retries(self) -> RegistryClient:
        """Return the same access with short time limits and no retries, for work that is repeated later if it fails."""
        return self.with_timeouts(_IMPATIENT)

    def manifest(self, ref: Ref) -> bytes | None:
        """Return the manifest of a tag or a digest, byte for byte, or None; a digest is verified.

        A manifest that is too large is not read, and the result is empty.
        """
        manifest = self._either(
            ref, lambda ours: ours.manifest(ref, self.timeouts), lambda skopeo: skopeo.manifest(ref)
        )
        if manifest and ref.digest and Digest.of(manifest) != ref.digest:
            raise RegistryError(f"{ref.host}: looking up {ref} failed: the registry returned another manifest")
        return manifest

    def digest(self, ref: Ref) -> Digest | None:
        """Return the digest of the manifest of a tag, or None."""

        def ask_skopeo(skopeo: SkopeoRegistry) -> Digest | None:
            manifest = skopeo.manifest(ref)
            return None if manifest is None else Digest.of(manifest)

        return self._either(ref, lambda ours: ours.digest(ref, self.timeouts), ask_skopeo)

    def manifests(self, refs: Iterable[Ref]) -> dict[Ref, bytes | None]:
        """Return the manifests of many references, concurrently; the first failure cancels the rest."""
        with WorkerPool(_ASKED_AT_ONCE) as pool:
            futures = {ref: pool.submit(self.manifest, ref) for ref in refs}
            try:
                return {ref: future.result() for ref, future in futures.items()}
            except BaseException as error:
                pool.shutdown(wait=False, cancel_futures=True)
                if isinstance(error, KeyboardInterrupt):  # the processes that the threads have started
                    self.stop.set()
                    stop_all()
                raise

    def config(self, ref: Ref) -> bytes:
        """Return the config blob of the manifest of a tag or a digest; skopeo verifies it."""
        return self._skopeo.config(ref)

    def fetch(
        self, ref: Ref, folder: Path, *, arch: str = "", most: int = 0, arriving: ArrivingFiles | None = None
    ) -> None:
        """Fetch manifest, config and blobs into a ``dir:`` layout, and verify their digests.

        Of an index that is the image for Linux on ``arch`` (Go's name; this host's if empty). ``most`` limits the bytes
        of each file, because a registry may send more than the manifest declares. ``arriving`` is told what has come,
        but not by skopeo; the caller ends it.
        """
        self._either(
            ref,
            lambda ours: ours.fetch(ref, folder, self.timeouts, arriving or ArrivingFiles(), arch=arch, most=most),
            lambda skopeo: skopeo.fetch(ref, folder, arch=arch, most=most),
        )

    def fetch_blob(
        self, ref: Ref, blob: tuple[Digest, int], out: BinaryIO, report: Callable[[int], None] = lambda _come: None
    ) -> None:
        """Fetch one blob, of a digest and a size, of the manifest ``ref`` into ``out``, and verify it.

        ``out`` is empty, seekable and writable. ``report`` is called with the bytes that have come.
        """
        self._either(
            ref,
            lambda ours: ours.fetch_blob(ref, blob, out, self.timeouts, report),
            lambda skopeo: skopeo.fetch_blob(ref, blob, out),
        )

    def push(self, folder: Path, ref: Ref, details: PushDetails = _PLAIN) -> tuple[Digest, ...]:
        """Push a ``dir:`` layout to a tag; return the blobs that the registry did not have. Others may be absent.

        Raises BlobsMissingError for blobs that neither has, DamagedError for blobs that do not match their digest.
        """

        return self._either(
            ref,
            lambda ours: ours.push(folder, ref, self.timeouts, details),
            lambda skopeo: skopeo.push(folder, ref, notes=details.notes),
        )

    def send(self, folder: Path, ref: Ref, details: PushDetails = _PLAIN) -> tuple[Digest, ...]:
        """Push only the layers of a ``dir:`` layout without a config; returns and raises as ``push`` does."""
        return self._either(
            ref,
            lambda ours: ours.send(folder, ref, self.timeouts, details),
            lambda skopeo: skopeo.send(folder, ref),
        )

    def stream(self, ref: Ref, blob: GrowingBlob) -> bool:
        """Upload a blob while it is written; return False if skopeo is used, which cannot.

        The repository has the blob only if all is sent and the registry takes the digest. Raises what ``blob`` does.
        """

        def send(ours: DistributionRepository) -> bool:
            ours.stream(ref, blob, self.timeouts)
            return True

        return self._either(ref, send, lambda _skopeo: False)

    def listed_blobs(self, ref: Ref) -> Set[Digest]:
        """Return what the image's manifest ``ref`` lists; nothing if it is no such manifest, or cannot be read now.

        It saves requests, so it is not worth more than one: there are no retries, and nothing where skopeo pushes.
        """
        try:
            return self._either(ref, lambda ours: ours.listed_blobs(ref, _IMPATIENT), lambda _skopeo: frozenset())
        except RegistryError:
            return frozenset()

    def push_index(self, folder: Path, ref: Ref) -> bool:
        """Push only the index of a ``dir:`` layout to a tag; the registry must have the manifests that it lists.

        Returns False, without pushing, if skopeo does it, and would drop fields that it does not know (1.9 drops
        `artifactType` in entries of an index; 1.18 keeps everything).
        """

        def push(ours: DistributionRepository) -> bool:
            ours.push_manifest(folder, ref, self.timeouts)
            return True

        return self._either(ref, push, lambda skopeo: skopeo.push_index(folder, ref))

    def why_skopeo(self, ref: Ref) -> str:
        """Return why requests to a repository were left to skopeo; empty if our own client did them."""
        return self._repositories.left.get(ref.repository, "")

    @property
    def _skopeo(self) -> SkopeoRegistry:
        return SkopeoRegistry(self.stop, self.timeouts)

    def _either(
        self, ref: Ref, ours: Callable[[DistributionRepository], _Result], skopeos: Callable[[SkopeoRegistry], _Result]
    ) -> _Result:
        if os.environ.get(CLIENT) == "skopeo":
            self._repositories.left[ref.repository] = f"{CLIENT} asks for it"
            return skopeos(self._skopeo)
        from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo

        try:
            result = ours(self._repositories.open(ref))
        except LeftToSkopeo as reason:
            self._repositories.left[ref.repository] = str(reason)
            return skopeos(self._skopeo)
        self._repositories.left.pop(ref.repository, None)
        return result
