"""Downloads what locks pin: resumed if the connection drops, verified while it is written, renamed last.

Threads share a ``Fetcher``. The temporary file is in the destination's folder, so that the final rename is atomic:
under the final name there is only ever a complete file with the right hash.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.digits import find_number
from buildkit.errors import BuildError, BuildkitError, FetchError, MismatchError, describe_disk_error
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.git_source import GitSource
from buildkit.locks.model_source import HUB
from buildkit.locks.pins import Artifact
from buildkit.store.file_locks import locked_temporary_file
from buildkit.tools.http import HttpSession, RetryPolicy, TransientFailure, url_name
from buildkit.tools.index_settings import host_of, load_sources

if TYPE_CHECKING:
    from httpx2 import Response

    from buildkit.tools.indexes import Candidate, Indexes

Progress = Callable[[int], None]
"""Called with the bytes of this file so far; the number falls if a download starts again."""

Link = Callable[[Path], bool]
"""Called with a local file that the settings or the lock name: whether it is used where it is, and not copied."""

_CHUNK = 1 << 18  # bytes; eight files are fetched at once
_TEMPORARY = ".part"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedFile:
    """The file that must arrive: a name for messages, the hash, and the size in bytes if it is known.

    ``link`` is asked before a local file is copied.
    """

    what: str
    sha256: FileHash
    size: int | None = None
    link: Link | None = None


class Fetcher:
    """Fetches distributions and files; ``retry_policy`` bounds the retries and carries the stop."""

    def __init__(self, session: HttpSession, indexes: Indexes, retry_policy: RetryPolicy) -> None:
        self._session = session
        self._indexes = indexes
        self._retry_policy = retry_policy

    def close(self) -> None:
        """Close idle connections; a later fetch opens new ones."""
        self._session.close()

    def fetch(self, artifact: Artifact, into: Path, *, progress: Progress, link: Link | None = None) -> None:
        """Fetch the artifact's file to ``into`` (the file, not its folder), replacing any file there.

        If ``link`` returns true for a local file, nothing is copied: it has made ``into`` a link after verifying it.

        Raises MismatchError if the offered bytes differ from the pin's, FetchError if there are none, Interrupted, or
        BuildError if the disk cannot be written.
        """
        if artifact.sha256 is None:
            raise ValueError(f"{artifact.name} is a package of the repository: nothing to fetch")
        pin = f"{artifact.name}=={artifact.version} ({artifact.file})"
        expected = ExpectedFile(what=pin, sha256=artifact.sha256, size=artifact.size or None, link=link)
        if artifact.git is not None:
            self._fetch_commit(artifact.git, expected, into, progress)
            return
        if (local := self._indexes.find_local(artifact)) is not None:
            with suppress(FetchError, MismatchError):  # then all indexes are asked, and report what is wrong
                self._use_local(local, expected, into, progress)
                return
        failure: BuildkitError | None = None
        if listed := self._indexes.find_listed_place(artifact):
            try:
                self._fetch_any(listed, expected, into, progress)
            except (FetchError, MismatchError) as error:
                failure = error  # a mirror may have it
            else:
                return
        candidates = self._indexes.find_file(artifact)
        if not candidates:
            raise failure or self._nowhere(pin)
        self._fetch_any(candidates, expected, into, progress)

    def fetch_from(self, urls: Iterable[str], expected: ExpectedFile, into: Path, *, progress: Progress) -> None:
        """Fetch the file behind the first of ``urls`` that has it to ``into``; raises as ``fetch`` does.

        A URL of the scheme ``file`` is a file of this host.
        """
        from buildkit.tools.indexes import Candidate

        candidates = tuple(
            Candidate(file=into.name, version="", url=url, path=Path(urlsplit(unquote(url)).path))
            if url.startswith("file://")
            else Candidate(file=into.name, version="", url=url)
            for url in urls
        )
        self._fetch_any(candidates, expected, into, progress)

    def fetch_url(self, url: str, expected: ExpectedFile, into: Path, *, progress: Progress) -> None:
        """Fetch the file behind ``url`` to ``into``; raises as ``fetch`` does.

        What the model hub's own library has cached on this host is copied, if it has the right bytes.
        """
        for cached in _find_hub_files(url, expected.sha256):
            with suppress(FetchError, MismatchError):  # damaged, or of another user: the hub is asked
                self._take_local(cached, expected, into, progress)
                return
        with _atomic_file(into) as file:
            self._download(url, _Sink(file, expected, progress))

    def hash_url(self, url: str, *, progress: Progress) -> tuple[FileHash, int]:
        """Return hash and size in bytes of the file behind ``url``, for locking; keeps nothing. Raises as ``fetch``."""
        sink = _Sink(None, None, progress)
        self._download(url, sink)
        return sink.sha256, sink.done

    def _fetch_any(
        self, candidates: tuple[Candidate, ...], expected: ExpectedFile, into: Path, progress: Progress
    ) -> None:
        """Fetch from the first candidate with the expected bytes; raise the first failure if none has them."""
        failures: list[BuildkitError] = []
        for candidate in candidates:
            try:
                if candidate.sha256 and candidate.sha256 != expected.sha256:
                    raise _mismatch(expected, candidate.sha256, candidate.url)
                if candidate.path is not None:
                    self._use_local(candidate.path, expected, into, progress)
                else:
                    self.fetch_url(candidate.url, expected, into, progress=progress)
            except (FetchError, MismatchError) as failure:
                failures.append(failure)
            else:
                return
        raise failures[0]

    def _fetch_commit(self, source: GitSource, expected: ExpectedFile, into: Path, progress: Progress) -> None:
        from buildkit.tools.git_fetch import fetch_commit  # few locks have such a package

        with tempfile.TemporaryDirectory(prefix="buildkit-git-") as folder:
            tar = Path(folder) / into.name
            with tar.open("wb") as file:
                fetch_commit(source, file)
            self._take_local(tar, expected, into, progress)

    def _use_local(self, source: Path, expected: ExpectedFile, into: Path, progress: Progress) -> None:
        if expected.link is None or not expected.link(source):
            self._take_local(source, expected, into, progress)

    def _take_local(self, source: Path, expected: ExpectedFile, into: Path, progress: Progress) -> None:
        """Copy a file of this host. A hard link would let later changes of the file bypass the hash."""
        try:
            stream = source.open("rb")
        except OSError as error:
            raise FetchError(f"{source}: {error.strerror}") from None
        with stream, _atomic_file(into) as file:
            sink = _Sink(file, expected, progress)
            while chunk := stream.read(_CHUNK):
                self._retry_policy.check()
                sink.take(chunk)
            sink.finish(str(source))

    def _download(self, url: str, sink: _Sink) -> None:
        tries, restarted = 0, False
        while True:
            tries += 1
            before = sink.done
            try:
                self._retry_policy.check()
                with self._session.open(url, start=sink.done) as response:
                    resumed = _resumes(response, sink)
                    self._drain(url, response, sink)
                sink.check_complete(url)
                if resumed and not sink.is_right and not restarted:
                    sink.restart()  # the file changed between two requests: fetch it once more from the start
                    restarted = True
                    continue
                sink.finish(url)
            except TransientFailure as dropped:
                tries = 1 if sink.done > before else tries  # there is progress, so retries start from the first again
                self._retry_policy.wait(dropped, tries)
            else:
                return

    def _drain(self, url: str, response: Response, sink: _Sink) -> None:
        if response.status_code == 416:  # the request started behind the end
            sink.restart()
            raise TransientFailure(FetchError(f"{host_of(url)} cannot resume {url_name(url)}"))
        for chunk in self._session.iter_body(url, response):
            self._retry_policy.check()
            sink.take(chunk)

    def _nowhere(self, pin: str) -> FetchError:
        refused = ", ".join(sorted(self._session.refused))
        hint = "check the index settings of pip and uv, or run: nox -s lock"
        if refused:
            hint = f"{refused} requires credentials: put them into netrc, a keyring, or the index settings"
        return FetchError(f"no index and no find-links has {pin}", hint=hint)


class _Sink:
    """Hashes chunks and writes them to a temporary file, if there is one."""

    def __init__(self, file: IO[bytes] | None, expected: ExpectedFile | None, progress: Progress) -> None:
        self._file = file
        self._wanted = expected
        self._progress = progress
        self._hash = hashlib.sha256()
        self._length: int | None = expected.size if expected else None
        self.done = 0

    @property
    def sha256(self) -> FileHash:
        return FileHash(self._hash.hexdigest())

    @property
    def is_right(self) -> bool:
        return self._wanted is None or self.sha256 == self._wanted.sha256

    def expect(self, length: int | None) -> None:
        """Use the server's length of the whole file, unless the lock names the size."""
        if self._wanted is None or self._wanted.size is None:
            self._length = length

    def take(self, chunk: bytes) -> None:
        if self._file:
            self._file.write(chunk)
        self._hash.update(chunk)
        self.done += len(chunk)
        if self._wanted and self._wanted.size is not None and self.done > self._wanted.size:
            raise MismatchError(
                f"{self._wanted.what}: more than the {self._wanted.size} bytes that the lock names",
                hint="if the change is intended, run: nox -s lock -- --upgrade",
            )
        self._progress(self.done)

    def restart(self) -> None:
        if self._file:
            self._file.seek(0)
            self._file.truncate()
        self._hash = hashlib.sha256()
        self.done = 0

    def check_complete(self, url: str) -> None:
        if self._length is not None and self.done < self._length:
            raise TransientFailure(
                FetchError(f"{host_of(url)} sent {self.done} of {self._length} bytes of {url_name(url)}")
            )

    def finish(self, source: str) -> None:
        """Verify the complete file and flush it to the disk."""
        if self._wanted is not None and not self.is_right:
            raise _mismatch(self._wanted, self.sha256, source)
        if self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def make_fetcher(root: Path, target: Target, stop: threading.Event) -> Fetcher:
    """Return a fetcher with pip's and uv's settings for the checkout ``root``; ``stop`` interrupts its downloads."""
    from buildkit.tools.indexes import Indexes

    sources = load_sources(root, os.environ)
    retry_policy = RetryPolicy(stop)
    session = HttpSession(sources, retry_policy)
    return Fetcher(session, Indexes(sources, session, target), retry_policy)


def _find_hub_files(url: str, sha256: FileHash) -> Iterator[Path]:
    if url.startswith(f"{HUB}/"):
        from buildkit.tools.hub_user import find_cached  # loads the hub's library

        yield from find_cached(url, sha256)


def _mismatch(expected: ExpectedFile, actual: FileHash, source: str) -> MismatchError:
    return MismatchError(
        f"{expected.what}: the lock says {expected.sha256}, but {host_of(source)} has {actual}",
        hint="the file was replaced or altered; if that is intended, run: nox -s lock -- --upgrade",
    )


def _resumes(response: Response, sink: _Sink) -> bool:
    """Return whether the response continues the sink's bytes; if it starts at the beginning, restart the sink."""
    if response.status_code == 206:
        header = response.headers.get("Content-Range", "")
        content_range = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/([0-9]+|\*)", header)
        if content_range and int(content_range[1]) == sink.done:
            sink.expect(find_number(content_range[2]))
            return True
        sink.restart()
        raise TransientFailure(FetchError("the server resumed at another position than requested"))
    if response.status_code == 200:
        if sink.done:
            sink.restart()
        sink.expect(find_number(response.headers.get("Content-Length", "")))
    return False


@contextmanager
def _atomic_file(into: Path) -> Iterator[IO[bytes]]:
    """Open a temporary file in the folder of ``into``: renamed to it if the block succeeds, else removed."""
    try:
        into.parent.mkdir(parents=True, exist_ok=True)
        with locked_temporary_file(into.parent, f".{into.name[:100]}.", _TEMPORARY) as file:
            os.fchmod(file.fileno(), 0o644)
            yield file
            file.flush()
            Path(file.name).replace(into)
    except OSError as error:
        raise _disk_error(into, error) from error


def _disk_error(into: Path, error: OSError) -> BuildError:
    trouble = describe_disk_error(error)
    hint = "free some room, or move the cache: BUILDKIT_CACHE=/path" if trouble else ""
    return BuildError(f"cannot write {into}: {trouble or error.strerror or error}", hint=hint)
