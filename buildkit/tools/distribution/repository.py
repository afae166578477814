"""Manifests and blobs of one repository: look-ups, fetches and pushes of several blobs at once.

Images are layouts of a folder (`tools.skopeo.write_layout`): `manifest.json`, and blobs named by their digits. A push
sends the manifest last.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from buildkit.digest import Digest
from buildkit.errors import BlobsMissingError, DamagedError, RegistryError
from buildkit.hostile_json import MalformedError
from buildkit.oci.image import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from buildkit.oci.reference import Ref
from buildkit.tools.arriving_files import ArrivingFiles
from buildkit.tools.distribution.connections import HttpRequest, HttpResponse, Operation
from buildkit.tools.distribution.left_to_skopeo import LeftToSkopeo
from buildkit.tools.distribution.progress import SentBytes
from buildkit.tools.distribution.registries_conf import check_policy, load_registries_conf
from buildkit.tools.distribution.session import RepositorySession, RequestFailed, failure_of
from buildkit.tools.distribution.workers import Workers
from buildkit.tools.growing_blob import GrowingBlob
from buildkit.tools.push_details import PushDetails
from buildkit.tools.registry_errors import RegistryTimeouts, registry_error
from buildkit.tools.skopeo import write_layout

Mounts = Callable[[Digest], str]
Report = Callable[[int], None]

if TYPE_CHECKING:
    from buildkit.tools.distribution.blob_push import BlobSource

_LOOKUPS = 8
_SMALL = 1 << 16  # bytes that are sent sooner than they are asked for
_UPLOADS = 4
_DOWNLOADS = 4
_MAX_MANIFEST = 4 << 20  # the limit of skopeo and of most registries
_DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
_ACCEPT = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, _DOCKER_INDEX))
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_LACKING = frozenset(("MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"))
_PERHAPS_LACKING = _LACKING | {"MANIFEST_INVALID"}  # Quay's word for it, and for others


class DistributionRepository:
    """One repository. Methods raise RegistryError, Interrupted and LeftToSkopeo; ``stop`` ends them at once.

    ``report`` is called with the bytes that have been sent.
    """

    def __init__(self, session: RepositorySession, stop: threading.Event) -> None:
        self._session = session
        self._stop = stop

    def manifest(self, ref: Ref, timeouts: RegistryTimeouts) -> bytes | None:
        """Return the manifest of a tag or a digest, byte for byte, or None; empty for one that is too large."""
        response = self._look(ref, "GET", timeouts)
        return None if response.status == 404 else response.body if response.whole else b""

    def digest(self, ref: Ref, timeouts: RegistryTimeouts) -> Digest | None:
        """Return the digest of the manifest of a tag, by one HEAD request where the registry answers it."""
        response = self._look(ref, "HEAD", timeouts)
        if response.status == 404:
            return None
        if found := _DIGEST.fullmatch(response.headers.get("docker-content-digest", "")):
            return Digest(found[1])
        manifest = self.manifest(ref, timeouts)
        return None if manifest is None else Digest.of(manifest)

    def listed_blobs(self, ref: Ref, timeouts: RegistryTimeouts) -> Set[Digest]:
        """Return the blobs that the image's manifest ``ref`` lists; nothing if it is anything else."""
        from buildkit.tools.distribution.image_fetch import find_image_blobs

        return find_image_blobs(self.manifest(ref, timeouts) or b"")

    def push(self, folder: Path, ref: Ref, timeouts: RegistryTimeouts, details: PushDetails) -> tuple[Digest, ...]:
        """Push a layout to a tag or a digest; return the layers that went up. Other layers may be absent.

        Raises BlobsMissingError for blobs that neither has, DamagedError for files that do not match their digest.
        """
        with self._pushing(ref, timeouts) as workers:
            sources, sent = _read_sources(folder), SentBytes(details.report)
            asked = [source for source in sources if source.digest not in details.present]
            push_blobs = partial(self._push_blobs, workers, ref, mounts=details.mounts, sent=sent)
            pushed = push_blobs(asked, small_are_new=bool(details.present))
            refusal = workers.run(lambda: self._put_manifest(workers.operation, ref, folder))
            if refusal and len(asked) < len(sources):
                pushed += push_blobs(sources)
                refusal = workers.run(lambda: self._put_manifest(workers.operation, ref, folder))
            if refusal:
                _check_absent(ref, sources, refusal)
                raise refusal
        return tuple(sorted(source.digest for source in sources if source.digest in pushed and source.is_layer))

    def send(self, folder: Path, ref: Ref, timeouts: RegistryTimeouts, details: PushDetails) -> tuple[Digest, ...]:
        """Push only the layers of a layout; returns and raises as ``push`` does."""
        with self._pushing(ref, timeouts) as workers:
            sources, sent = [source for source in _read_sources(folder) if source.path], SentBytes(details.report)
            return tuple(sorted(self._push_blobs(workers, ref, sources, details.mounts, sent)))

    def stream(self, ref: Ref, blob: GrowingBlob, timeouts: RegistryTimeouts) -> None:
        """Upload a blob while its file is written; if it raises in place of a digest, the upload is cancelled.

        The body has an end even then, so the registry is ready to drop what it has.
        """
        from buildkit.tools.distribution.begun_upload import BegunUpload

        with self._pushing(ref, timeouts) as workers:
            upload = BegunUpload(self._session, workers.operation, _ignore)

            def attempt() -> None:
                try:
                    upload.begin()
                    upload.patch(blob)
                    upload.finish(blob.digest())
                except BaseException:
                    upload.cancel()
                    raise

            workers.run(attempt)

    def push_manifest(self, folder: Path, ref: Ref, timeouts: RegistryTimeouts) -> None:
        """Push only the manifest or the index of a layout; the repository has what it refers to."""
        with self._pushing(ref, timeouts) as workers:
            if refusal := workers.run(lambda: self._put_manifest(workers.operation, ref, folder)):
                raise refusal

    def _check_rewriting(self) -> None:
        if self._session.rule.rewritten:
            raise LeftToSkopeo(f"{self._session.rule.prefix} is read elsewhere, says registries.conf(5)")

    def _look(self, ref: Ref, method: str, timeouts: RegistryTimeouts) -> HttpResponse:
        """Return the response of status 200 or 404, to HEAD any that the registry gives where it does not know HEAD."""
        self._check_rewriting()
        operation = Operation(self._session.connections, timeouts.look)
        limit = timeouts.look + sum(timeouts.waits)
        workers = Workers(operation, self._stop, timeouts.waits, most_stalls=0, limit=limit)

        def attempt() -> HttpResponse:
            target = f"/v2/{self._session.path}/manifests/{ref.digest or ref.tag or 'latest'}"
            origin, headers = self._session.origin(operation), {"Accept": _ACCEPT}
            request = HttpRequest(method=method, origin=origin, target=target, headers=headers, limit=_MAX_MANIFEST)
            response = self._session.request(operation, request, self._session.pull_scopes)
            if response.status not in ((200, 404, 405, 501) if method == "HEAD" else (200, 404)):
                raise failure_of(response)
            return response

        with _explained(ref, "looking up"):
            return workers.run(attempt)

    def fetch(
        self, ref: Ref, folder: Path, timeouts: RegistryTimeouts, arriving: ArrivingFiles, *, arch: str, most: int
    ) -> None:
        """Fetch an image into a layout, several blobs at once; of an index the image for Linux on ``arch``.

        No blob may have more than ``most`` bytes, if that is not 0. ``arriving`` is told what has come.
        """
        from buildkit.tools.distribution.blob_fetch import BlobFetch, at_end_of
        from buildkit.tools.distribution.image_fetch import list_blobs

        with self._fetching(ref, timeouts) as workers:
            manifest = self._image_manifest(ref, timeouts, arch)
            files = {folder / blob[0].hex: blob for blob in list_blobs(manifest, most)}
            fetches = {
                path: BlobFetch(self._session, blob, at_end_of(path), partial(arriving.report, path))
                for path, blob in files.items()
            }

            def download(path: Path) -> None:
                fetches[path].run(workers.operation)
                arriving.complete(path)

            folder.mkdir(exist_ok=True)
            arriving.begin(manifest)
            try:
                workers.map(download, files, _DOWNLOADS)
            except LeftToSkopeo:  # where blobs are; skopeo writes into empty folders only
                arriving.withdraw()
                for path in files:
                    path.unlink(missing_ok=True)
                raise
        write_layout(folder, manifest)

    def fetch_blob(
        self, ref: Ref, blob: tuple[Digest, int], out: BinaryIO, timeouts: RegistryTimeouts, report: Report
    ) -> None:
        """Fetch a blob of a digest and a size into ``out``, which is empty, seekable and writable."""
        from buildkit.tools.distribution.blob_fetch import BlobFetch

        fetch = BlobFetch(self._session, blob, lambda: nullcontext(out), report)
        with self._fetching(ref, timeouts) as workers:
            workers.run(lambda: fetch.run(workers.operation))

    def _image_manifest(self, ref: Ref, timeouts: RegistryTimeouts, arch: str) -> bytes:
        from buildkit.tools.distribution.image_fetch import find_image, host_arch

        manifest = self._get_manifest(ref, timeouts)
        if (chosen := find_image(manifest, arch or host_arch())) is None:
            return manifest
        return self._get_manifest(replace(ref, digest=chosen), timeouts)

    def _get_manifest(self, ref: Ref, timeouts: RegistryTimeouts) -> bytes:
        manifest = self.manifest(ref, timeouts)
        if manifest is None:
            raise RequestFailed(f"404 Not Found: manifest unknown: {ref.digest or ref.tag}", status=404)
        if ref.digest and Digest.of(manifest) != ref.digest:
            raise RequestFailed("the registry returned another manifest")
        return manifest

    @contextmanager
    def _fetching(self, ref: Ref, timeouts: RegistryTimeouts) -> Iterator[Workers]:
        check_policy("docker")
        self._check_rewriting()
        with _explained(ref, "fetching"):
            yield Workers(Operation(self._session.connections, timeouts.fetch), self._stop, timeouts.waits)

    @contextmanager
    def _pushing(self, ref: Ref, timeouts: RegistryTimeouts) -> Iterator[Workers]:
        check_policy("dir")
        with _explained(ref, "pushing"):
            yield Workers(Operation(self._session.connections, timeouts.push), self._stop, timeouts.waits)

    def _push_blobs(
        self,
        workers: Workers,
        ref: Ref,
        sources: Sequence[BlobSource],
        mounts: Mounts,
        sent: SentBytes,
        *,
        small_are_new: bool = False,
    ) -> list[Digest]:
        """Push those blobs that the repository lacks. Small ones are not asked for if they are surely new."""
        from buildkit.tools.distribution.blob_push import BlobPush  # not to look up

        pushes = {
            source: BlobPush(self._session, workers.operation, source, sent.reporter(source.digest), mounts)
            for source in sources
        }
        asked = [source for source in pushes if not (small_are_new and source.path and source.size < _SMALL)]
        present = workers.map(lambda source: pushes[source].is_there(), asked, _LOOKUPS)
        there = {source for source, is_there in zip(asked, present, strict=True) if is_there}
        missing = [source for source in pushes if source not in there]
        _check_files(missing)
        absent = [source for source in missing if source.path is None]
        mounted = workers.map(lambda source: pushes[source].mount(), absent, _LOOKUPS)
        if lost := [source for source, there in zip(absent, mounted, strict=True) if not there]:
            message = f"{ref.host}: pushing {ref} failed: the registry and the cache lack {_count(lost)}"
            raise BlobsMissingError(message, digests=tuple(sorted(source.digest.hex for source in lost)))
        sending = sorted((source for source in missing if source.path), key=lambda source: -source.size)
        went_up = workers.map(lambda source: pushes[source].run(), sending, _UPLOADS)
        return [source.digest for source, went in zip(sending, went_up, strict=True) if went]

    def _put_manifest(self, operation: Operation, ref: Ref, folder: Path) -> RequestFailed | None:
        """Return None, or the refusal of a manifest whose blobs the repository may lack."""
        manifest = (folder / "manifest.json").read_bytes()
        digest, media_type = Digest.of(manifest), json.loads(manifest).get("mediaType", OCI_MANIFEST)
        request = HttpRequest(
            method="PUT",
            origin=self._session.origin(operation),
            target=f"/v2/{self._session.path}/manifests/{ref.digest or ref.tag or 'latest'}",
            headers={"Content-Type": media_type},
            body=manifest,
        )
        response = self._session.request(operation, request, self._session.push_scopes)
        if response.status not in (200, 201, 202):
            failure = failure_of(response)
            if "DIGEST_INVALID" in failure.codes and ref.digest in (None, digest):
                failure.transient = True  # Docker's registry empties a blob's link before it writes it once more
            elif _PERHAPS_LACKING & set(failure.codes):
                return failure
            raise failure
        if response.headers.get("docker-content-digest", str(digest)) != str(digest):
            raise RequestFailed("the registry stored another manifest than it was sent")
        return None


def _ignore(_come: int) -> None:
    """Report nothing."""


def open_repository(ref: Ref, stop: threading.Event) -> DistributionRepository:
    """Return the access to the repository of ``ref``; raises LeftToSkopeo where settings are not understood."""
    session = RepositorySession(ref, load_registries_conf())
    if session.rule.blocked:
        raise LeftToSkopeo(f"{session.rule.prefix} is blocked in registries.conf(5)")
    return DistributionRepository(session, stop)


def _read_sources(folder: Path) -> list[BlobSource]:
    """Return the blobs of a layout, each once; one that is the config and a layer counts as a layer."""
    from buildkit.tools.distribution.blob_push import BlobSource

    manifest = json.loads((folder / "manifest.json").read_bytes())
    sources = {}
    for descriptor in (manifest["config"], *manifest["layers"]):
        digest = Digest.parse(descriptor["digest"])
        path = folder / digest.hex
        sources[digest] = BlobSource(
            digest=digest,
            size=descriptor["size"],
            path=path if path.exists() else None,
            is_layer=descriptor is not manifest["config"],
        )
    return list(sources.values())


def _check_files(sources: Iterable[BlobSource]) -> None:
    """Raise DamagedError for files of another size than their descriptor says."""
    damaged = [one.digest for one in sources if one.path is not None and one.path.stat().st_size != one.size]
    if damaged:
        message = f"{len(damaged)} cached blobs were damaged: {', '.join(digest.short for digest in damaged)}"
        raise DamagedError(message, digests=tuple(digest.hex for digest in damaged))


def _check_absent(ref: Ref, sources: Iterable[BlobSource], failure: RequestFailed) -> None:
    """Raise BlobsMissingError if the registry lost blobs that are not here either: they can be made again."""
    absent = [source for source in sources if source.path is None]
    if absent and _LACKING & set(failure.codes):
        message = f"{ref.host}: pushing {ref} failed: {failure}"
        raise BlobsMissingError(message, digests=tuple(sorted(source.digest.hex for source in absent)))


def _count(sources: Sequence[BlobSource]) -> str:
    names = ", ".join(source.digest.short for source in sources)
    return f"{len(sources)} blob{'' if len(sources) == 1 else 's'}: {names}"


@contextmanager
def _explained(ref: Ref, action: str) -> Iterator[None]:
    """Turn the failure of a request into an error that names the registry."""
    try:
        yield
    except MalformedError as malformed:
        raise registry_error(ref, action, str(malformed)) from malformed
    except RequestFailed as failure:
        error: RegistryError = registry_error(ref, action, str(failure))
        error.down = error.down or failure.transient
        raise error from failure
