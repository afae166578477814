"""Scans model files on this host: each content once under the same rules. The verdicts are kept in the ledger."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING, BinaryIO

from buildkit.build.context import BuildContext
from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError, BuildkitError, MismatchError
from buildkit.lazy_dataclass import dataclass
from buildkit.scan import (
    FileSource,
    Scan,
    ScanGap,
    ScanSource,
    import_scanner,
    library_globals,
    recognise,
    rules_version,
    scan,
)
from buildkit.store.scan_verdicts import ScanVerdicts, at_path, rules_of_builder
from buildkit.tools.opinion_engines import Engine, find_engines
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.tools.second_opinions import Opinion, SecondOpinions

_CHUNK = 1 << 20
_FAILED = "the scanner failed"

Progress = Callable[[int], None]


@dataclass(slots=True, kw_only=True)
class MonitoredSource:
    """A source that reports its progress every mebibyte, so that a scan can be stopped."""

    source: ScanSource
    progress: Progress
    done: int = 0
    reported: int = 0

    @property
    def size(self) -> int:
        """Return the size as ``ScanSource.size`` does."""
        return self.source.size

    def read(self, offset: int, count: int) -> bytes:
        """Read as ``ScanSource.read`` does, and report progress."""
        data = self.source.read(offset, count)
        self.done += len(data)
        if self.done - self.reported >= _CHUNK:
            self.reported = self.done
            self.progress(min(self.done, self.size))
        return data


class ModelScanner:
    """Scans with a user's allowlist. Known verdicts are reused, unless ``fresh`` is set."""

    def __init__(self, context: BuildContext, allow: ModelAllowlist, *, fresh: bool = False) -> None:
        self._context = context
        self._allow = allow
        self._fresh = fresh
        self.verdicts = ScanVerdicts(context.ledger)

    @cached_property
    def rules(self) -> str:
        """The version of the rules, under which verdicts are kept."""
        return rules_version(self._allowed | {f"opinion of {engine.name} {engine.version}" for engine in self.engines})

    @cached_property
    def engines(self) -> tuple[Engine, ...]:
        """The other scanners that are asked."""
        return find_engines()

    @cached_property
    def _allowed(self) -> frozenset[str]:
        """The names that pickles may use beyond the built-in list: the user's, and those of whole libraries."""
        return self._allow.globals | library_globals(self._context.project.scan_allow)

    def known(self, hashes: Iterable[FileHash]) -> dict[FileHash, Scan]:
        """Return the known verdicts of contents."""
        return {} if self._fresh else self.verdicts.find(hashes, self.rules)

    def known_of_layer(self, key: Key, hashes: Iterable[FileHash]) -> dict[FileHash, Scan]:
        """Return the verdicts of the machine that built a reused layer on the layer's files."""
        return self.verdicts.find(hashes, rules_of_builder(self.rules, key))

    def scan(self, name: str, sha256: FileHash, file: BinaryIO, progress: Progress) -> Scan:
        """Scan an open file whose content has this hash, unless another process does so first.

        Raises MismatchError for a file that changes during the scan, and Interrupted.
        """
        *_, result = self.scan_in_steps(name, sha256, file, progress)
        return result

    def scan_in_steps(self, name: str, sha256: FileHash, file: BinaryIO, progress: Progress) -> Iterator[Scan]:
        """Scan as `scan` does; yield what our own scanner found, then what counts, with the opinions of others.

        Both are the same if the verdict is known. Others read the file while the caller has the first. The file's lock
        is not held then: what the caller does may wait for other builds, and they for this lock.
        """
        from buildkit.build.opinions import with_opinions

        context = self._context
        with ExitStack() as asking:
            with context.blobs.building(Key.of(f"scan {sha256}".encode()), context.stop.is_set):
                if (known := self.known([sha256]).get(sha256)) is None:
                    began, before = time.monotonic(), os.fstat(file.fileno())
                    source = MonitoredSource(source=FileSource.of(file), progress=progress)
                    others = asking.enter_context(self._asking_others(name, file, source))
                    own = run_scan(name, source, self._allowed)
            if known is not None:
                yield from (at_path(known, name),) * 2
                return
            yield at_path(own, name)
            result = with_opinions(name, own, others)
        verify_unchanged(name, before, os.fstat(file.fileno()))
        if not has_failed(result):
            with suppress(BuildError):  # with a full disk, the content is scanned again the next time
                self.verdicts.add(sha256, self.rules, result, time.monotonic() - began)
        yield at_path(result, name)

    @contextmanager
    def _asking_others(
        self, name: str, file: BinaryIO, source: ScanSource
    ) -> Iterator[Callable[[bool], tuple[Opinion, ...]]]:
        """Let other scanners read a file, if it may have pickles; yield what gives their opinions, of all of it or not.

        Of what is of no known format they read the beginning: loaders read a pickle from there, too.
        """
        if not self.engines:
            yield lambda _whole: ()
            return
        from buildkit.build.opinions import ask_all, may_ask

        with self._opinions.needed() as opinions, WorkerPool(1) as pool:
            formats, ask = recognise(source), partial(ask_all, self._context, name, file, opinions)
            asked = pool.submit(ask, whole=bool(formats)) if may_ask(formats) else None
            yield lambda whole: asked.result() if asked and (formats or not whole) else ask(whole=whole)

    def prepare(self) -> None:
        """Let the process of other scanners load them, while something else is done; `close` ends it."""
        if self.engines:
            self._opinions.start()

    def close(self) -> None:
        """End the process of other scanners."""
        if "_opinions" in self.__dict__:
            self._opinions.close()

    @cached_property
    def _opinions(self) -> SecondOpinions:
        from buildkit.tools.second_opinions import SecondOpinions  # few builds scan a file

        return SecondOpinions(self.engines)


def run_scan(name: str, source: ScanSource, allowed: frozenset[str]) -> Scan:
    """Scan a content. If the scanner itself fails, the result is a gap: neither a traceback nor a clean file."""
    import_scanner()
    return scan_or_gap(lambda: scan(name, source, allowed=allowed))


def scan_or_gap(run: Callable[[], Scan]) -> Scan:
    """Return what ``run`` returns; if the scanner itself fails, a scan with a gap, which `has_failed`."""
    try:
        return run()
    except BuildkitError:
        raise
    except Exception as error:  # hostile files are made to break scanners
        if isinstance(error, OSError) and error.errno is not None:
            raise  # raised by the disk, not by a decompressor
        return Scan((), (ScanGap(f"{_FAILED} at it ({type(error).__name__})"),), ())


def has_failed(result: Scan) -> bool:
    """Return whether the scanner failed, perhaps for lack of memory, so that the result must not be kept."""
    return any(gap.why.startswith(_FAILED) for gap in result.gaps)


def read_checksums(file: BinaryIO, progress: Progress) -> tuple[FileHash, str]:
    """Return SHA-256 and SHA-512 (hexadecimal digits) of an open file, read once from its start."""
    sha256, sha512, done = hashlib.sha256(), hashlib.sha512(), 0
    while chunk := os.pread(file.fileno(), _CHUNK, done):
        sha256.update(chunk)
        sha512.update(chunk)
        done += len(chunk)
        progress(done)
    return FileHash(sha256.hexdigest()), sha512.hexdigest()


def verify_unchanged(name: str, before: os.stat_result, after: os.stat_result) -> None:
    """Raise MismatchError if a file was written to between two calls of fstat(2)."""
    first, second = ((stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for stat in (before, after))
    if first != second:
        raise MismatchError(
            f"{name}: the file changed while it was scanned", hint="let nothing write to it, and try again"
        )
