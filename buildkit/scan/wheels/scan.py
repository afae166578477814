"""Scan one wheel: its directory, the first bytes of its files, and the whole of those that are models.

A wheel is code that whoever pins it trusts, so this does not judge its sources. It looks for what runs or hides without
an import. A pickle that names classes of its own wheel is as good as the wheel.
"""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast
from zipfile import ZipInfo

from packaging.utils import canonicalize_name

from buildkit.findings import Finding, Rule, Severity
from buildkit.layers.wheel.archive import WheelZip
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.programs import find_program
from buildkit.scan.limits import LimitError, ScanBudget, ScanLimits
from buildkit.scan.pickle.rules import STRAY, UNKNOWN_GLOBAL
from buildkit.scan.result import UNKNOWN_CONTENT, Scan
from buildkit.scan.source import BytesSource, FileSource, ScanSource
from buildkit.scan.wheels import rules
from buildkit.scan.wheels.candidates import HEAD, is_array_head, is_model_name, is_pickle_head, mentions_denied
from buildkit.scan.wheels.startup import LARGEST, check_path_file, find_site_name, is_startup_module

_MOST = 512 << 20  # bytes of a model that are scanned
_IN_MEMORY = 8 << 20  # bytes of a model up to which it is not written to a file
# sources, texts and native modules, of which wheels have tens of thousands: their first bytes are not read
_PLAIN = re.compile(
    r"\.(?:pyi?|pyx|pxd|so|[ch]|[ch]pp|hh|cc|cuh?|ipp|inl|hxx|pyc|js|ts|map|md|rst|ya?ml|toml|po|mo|f90?)\Z"
    r"|\.so\.[\d.]+\Z"
)
_PROGRAM = re.compile(  # a name without suffix, or one of programs, libraries and objects
    r"(?:(?:^|/)[^./]+"
    r"|\.(?:so[\w.-]*|o|a|dll|exe|com|pyd|dylib|node|bin|elf|run|out|ko|cubin|hsaco|x86_64|[\d.]+\w*))\Z"
)
_PROGRAMS = ("an ELF program or library", "a Windows program or library", "a macOS program or library")
_SCRIPT = re.compile(r"[^/]+\.data/(?:scripts|data/bin)/([^/]+)")
_SYSTEM = re.compile(
    r"(?:[bd]a)?sh|env|ls|cat|cp|mv|rm|ln|id|sudo|su|u?mount|kill|chmod|chown|mkdir|touch|uname|which|true|false|test|ps"
    r"|[ef]?grep|sed|awk|tar|gzip|find|xargs|sleep|dpkg|apt(?:-get)?|ldconfig|ldd"
)
_USE = re.compile(r"(?:calls|imports|hands over) ([A-Za-z_]\w*)\b")


def scan_wheel(path: Path, allowed: frozenset[str]) -> Scan:
    """Scan a wheel without loading or running anything; findings are at the wheel's file name, their members its files.

    ``allowed`` as in `buildkit.scan.scan`. Raises WheelError if it is not a wheel.
    """
    scanner = _WheelScanner(WheelZip(path), allowed)
    for name, entry in scanner.archive.files.items():
        scanner.look_at(name, entry)
    return scanner.result()


class _WheelScanner:
    """Scans the members of one wheel, one after another."""

    def __init__(self, archive: WheelZip, allowed: frozenset[str]) -> None:
        self.archive = archive
        self._distribution = canonicalize_name(archive.path.name.partition("-")[0])
        self._context = ScanContext(archive.path.name, ScanBudget(ScanLimits()), (), allowed)

    def look_at(self, name: str, entry: ZipInfo) -> None:
        """Examine one member as far as its name and its first bytes demand."""
        self._context.member = name
        for rule, what in (*_check_entry(name, entry), *self._check_startup(name, entry)):
            self._context.find(rule, what)
        if entry.file_size and not _PLAIN.search(name):
            self._look_inside(name, entry)

    def result(self) -> Scan:
        """Return what counts in a wheel."""
        own, scan = frozenset(filter(None, map(_top_level, self.archive.files))), self._context.result()
        findings = (_weigh(finding, own) for finding in scan.findings)
        gaps = tuple(gap for gap in scan.gaps if gap.why != UNKNOWN_CONTENT or is_model_name(gap.member))
        return Scan(tuple(finding for finding in findings if finding), gaps, scan.formats)

    def _check_startup(self, name: str, entry: ZipInfo) -> Iterator[tuple[Rule, str]]:
        place = find_site_name(name)
        if is_startup_module(place):
            yield rules.STARTUP_CODE, f"Python imports {place} at every start"
        elif place.endswith(".pth") and entry.file_size > LARGEST:
            yield rules.STARTUP_CODE, f"it may have code: {entry.file_size} bytes are too many to be read"
        elif place.endswith(".pth"):
            yield from check_path_file(self._distribution, place, self.archive.read(name, LARGEST))

    def _look_inside(self, name: str, entry: ZipInfo) -> None:
        head = self.archive.head(name, HEAD)
        if is_model_name(name) or is_array_head(head) or is_pickle_head(head):
            if entry.file_size > _MOST:
                self._context.gap(f"it has {entry.file_size} bytes, more than are scanned in a wheel")
            else:
                with self._extracted(name, entry) as (source, content):
                    self._scan_model(name, head, source, content)
        elif not _PROGRAM.search(name) and (kind := find_program(head, BytesSource(head))) in _PROGRAMS:
            self._context.find(rules.DISGUISED, f"it is {kind}")

    @contextmanager
    def _extracted(self, name: str, entry: ZipInfo) -> Iterator[tuple[ScanSource, bytes | mmap]]:
        """Yield a member's content; a large one is in a file that nobody else has, so it can be mapped."""
        if entry.file_size <= _IN_MEMORY:
            content = self.archive.read(name, _MOST)
            yield BytesSource(content), content
            return
        with TemporaryFile(prefix="buildkit-") as file:
            for chunk in self.archive.stream(name):
                file.write(chunk)
            file.flush()
            with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
                yield FileSource.of(cast("BinaryIO", file)), mapped

    def _scan_model(self, name: str, head: bytes, source: ScanSource, content: bytes | mmap) -> None:
        is_array = is_array_head(head)
        if not (is_array or is_model_name(name) or mentions_denied(content)):
            return
        context = self._context
        if not context.registry:
            from buildkit.scan.examine import REGISTRY  # slow to load, and most wheels have no models
            from buildkit.scan.pickle.net import catch_pickles

            context.registry, context.net = REGISTRY, catch_pickles
        try:
            if is_array:  # whatever its name states
                context.examine(source)
            else:
                context.member = ""
                context.descend(name, source)
        except LimitError as error:
            context.gap(str(error))


def _check_entry(name: str, entry: ZipInfo) -> Iterator[tuple[Rule, str]]:
    mode = entry.external_attr >> 16
    if mode & (stat.S_ISUID | stat.S_ISGID):
        yield rules.SETUID, f"its mode is {stat.S_IMODE(mode):04o}"
    script = _SCRIPT.fullmatch(name)
    if script and _SYSTEM.fullmatch(script[1]):
        yield rules.SHADOWS, f"the environment's {script[1]} comes before the system's"


def _weigh(finding: Finding, own: frozenset[str]) -> Finding | None:
    """Return the finding as it counts in a wheel; None if it does not."""
    if finding.rule is UNKNOWN_GLOBAL:
        used = _USE.match(finding.what)
        return None if used and used[1] in own else replace(finding, override=Severity.MEDIUM)
    if finding.rule.id == "python-source" and find_site_name(finding.member).endswith(".pth"):
        return None  # it is no model, and `check_path_file` judges each of its lines
    if finding.rule is STRAY:  # perhaps numbers or text that look like one
        return replace(finding, override=Severity.MEDIUM)
    return finding if finding.rule.id.startswith("wheel-") or finding.severity >= Severity.HIGH else None


def _top_level(name: str) -> str:
    """Return the module or package that a file of the wheel belongs to; empty for none."""
    first, _, rest = name.partition("/")
    if first.endswith(".data"):
        scheme, _, below = rest.partition("/")
        return _top_level(below) if scheme in ("purelib", "platlib") else ""
    return "" if first.endswith(".dist-info") else first.partition(".")[0]
