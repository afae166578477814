"""Scans of model files on this host: each content once under the same rules, whoever asks, and what came of it kept."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO

from buildkit.build.context import BuildContext
from buildkit.declare.model_allowlist import ModelAllowlist
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError, BuildkitError, MismatchError
from buildkit.scan import FileSource, Scan, ScanGap, ScanSource, import_scanner, rules_version, scan
from buildkit.store.scan_verdicts import ScanVerdicts, at_path

_CHUNK = 1 << 20
_FAILED = "the scanner failed"

Progress = Callable[[int], None]


@dataclass(slots=True, kw_only=True)
class Watched:
    """A source that tells how much of it was read, once for every mebibyte, and so can be stopped."""

    source: ScanSource
    progress: Progress
    done: int = 0
    said: int = 0

    @property
    def size(self) -> int:
        """As ``Source.size``."""
        return self.source.size

    def read(self, offset: int, count: int) -> bytes:
        """As ``Source.read``."""
        data = self.source.read(offset, count)
        self.done += len(data)
        if self.done - self.said >= _CHUNK:
            self.said = self.done
            self.progress(min(self.done, self.size))
        return data


class Scanner:
    """Scans with a user's ``allow``; verdicts are looked up and kept, unless ``fresh`` asks for new ones."""

    def __init__(self, context: BuildContext, allow: ModelAllowlist, *, fresh: bool = False) -> None:
        self._context = context
        self._allow = allow
        self._fresh = fresh
        self.verdicts = ScanVerdicts(context.ledger)

    @cached_property
    def rules(self) -> str:
        """What verdicts are kept under."""
        return rules_version(self._allow.globals)

    def known(self, hashes: Iterable[FileHash]) -> dict[FileHash, Scan]:
        """What is known of contents already."""
        return {} if self._fresh else self.verdicts.find(hashes, self.rules)

    def scan(self, name: str, sha256: FileHash, file: BinaryIO, progress: Progress) -> Scan:
        """Scan an open file whose content has this hash, unless another process was quicker.

        Raises MismatchError for a file that changes meanwhile, and Interrupted.
        """
        context = self._context
        with context.blobs.building(Key.of(f"scan {sha256}".encode()), context.stop.is_set):
            found = self.known([sha256]).get(sha256)
            if found is None:
                began, before = time.monotonic(), os.fstat(file.fileno())
                found = run_scan(name, Watched(source=FileSource.of(file), progress=progress), self._allow)
                check_same(name, before, os.fstat(file.fileno()))
                if any(gap.why.startswith(_FAILED) for gap in found.gaps):
                    return at_path(found, name)  # perhaps for want of memory: not for good
                with suppress(BuildError):  # what a full disk cannot remember is scanned again
                    self.verdicts.add(sha256, self.rules, found, time.monotonic() - began)
        return at_path(found, name)


def run_scan(name: str, source: ScanSource, allow: ModelAllowlist) -> Scan:
    """Scan a content. A scanner that fails at it has not scanned it: that is no traceback, and no clean file."""
    import_scanner()
    try:
        return scan(name, source, allowed=allow.globals)
    except BuildkitError:
        raise
    except Exception as error:  # files are hostile, and made to make scanners fail
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not a decompressor's
        return Scan((), (ScanGap(f"{_FAILED} at it ({type(error).__name__})"),), ())


def checksums(file: BinaryIO, progress: Progress) -> tuple[FileHash, str]:
    """SHA-256 and SHA-512 (hexadecimal digits) of an open file, read once from its beginning."""
    sha256, sha512, done = hashlib.sha256(), hashlib.sha512(), 0
    while chunk := os.pread(file.fileno(), _CHUNK, done):
        sha256.update(chunk)
        sha512.update(chunk)
        done += len(chunk)
        progress(done)
    return FileHash(sha256.hexdigest()), sha512.hexdigest()


def check_same(name: str, before: os.stat_result, after: os.stat_result) -> None:
    """Raise MismatchError for a file that was written to between two looks."""
    first, second = ((one.st_size, one.st_mtime_ns, one.st_ctime_ns) for one in (before, after))
    if first != second:
        raise MismatchError(f"{name}: it changed while it was scanned", hint="let nobody write to it, and try again")
