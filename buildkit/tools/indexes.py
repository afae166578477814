"""Find distributions with unearth, which decides what fits a target."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import warnings
from collections.abc import Collection, Sequence, Set
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import FetchError
from buildkit.lazy_dataclass import dataclass
from buildkit.locks.pins import Artifact, Pin, PinnedFile
from buildkit.locks.requirements_txt import normalise_name
from buildkit.tools.distribution_metadata import fetch_requires_python, read_requires_python
from buildkit.tools.finder import as_fetcher, make_finder, make_target_python
from buildkit.tools.http import HttpSession, TransientFailure
from buildkit.tools.index_settings import PackageSources

if TYPE_CHECKING:
    from unearth import Link, PackageFinder
    from unearth.finder import Source

# unearth says so of every file that has such a specifier, which it then reads as installers do
_LEGACY = r"(?:\.\* suffix|Local version label) can only be used"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A distribution file that a source offers. ``url`` may contain credentials: never print it."""

    file: str
    version: str
    url: str
    sha256: FileHash | None = None
    path: Path | None = None  # of a local file


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedFile:
    """A file of a pin, which need not fit. ``form`` is ``wheel`` or ``sdist``; ``tags`` are a wheel's, else empty.

    ``fits`` says whether C library, processor and Python's ABI fit; ``requires_python`` is PEP 440, or empty.
    """

    form: str
    tags: str
    fits: bool
    requires_python: str


class Indexes:
    """All sources of distributions for one target; safe to share among threads."""

    def __init__(self, sources: PackageSources, session: HttpSession, target: Target) -> None:
        logger = logging.getLogger("unearth")  # its warnings become our errors
        logger.propagate = False  # to the root logger, whose records Nox prints
        if not logger.handlers:  # then logging would print warnings itself
            logger.addHandler(logging.NullHandler())
        warnings.filterwarnings("ignore", _LEGACY, FutureWarning)  # in others' Requires-Python
        self.session = session
        self._sources = sources
        self._target = target
        self._others: dict[Target, Indexes] = {}
        self._fetched: dict[str, str] = {}
        self._lock = threading.Lock()

    def of(self, target: Target) -> Indexes:
        """Return the same sources for another target; every target's pages are read once."""
        if target == self._target:
            return self
        return self._others.setdefault(target, Indexes(self._sources, self.session, target))

    @cached_property
    def _finder(self) -> PackageFinder:
        return make_finder(self._sources, self.session, self._target)

    def _find_in(
        self, finder: PackageFinder, name: str, specifier: str, hashes: Sequence[FileHash] = (), *, form: str = ""
    ) -> Candidate | None:
        allowed = {"sha256": [item.hex for item in hashes]} if hashes else None
        if allowed:
            from buildkit.tools.pin_finder import PinFinder

            finder = PinFinder(finder, allowed["sha256"])
        found = finder.find_matches(
            f"{name}{specifier}",
            allow_yanked=True if specifier.startswith("==") else None,
            allow_prereleases=True if specifier.startswith("==") else None,
            hashes=allowed,
        )
        best = next((item for item in found if form in ("", _form(item.link)) and self._runs(item.link)), None)
        return _candidate(best.link, best.version or "") if best is not None else None

    def _runs(self, link: Link) -> bool:
        """Whether the Python of the images may have a file, which pages of links, unlike indexes, do not say."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet
        from unearth.utils import fix_legacy_specifier

        try:
            needed = SpecifierSet(fix_legacy_specifier(self._requires_python(link)))
        except InvalidSpecifier:
            return False
        return needed.contains(self._target.python, prereleases=True)

    def _requires_python(self, link: Link) -> str:
        """Return the Requires-Python of a file (PEP 440): what its index says, else what the file itself says."""
        if link.requires_python or link.dist_info_metadata:  # who serves the metadata of files knows it
            return link.requires_python or ""
        if link.is_file:
            return read_requires_python(link.file_path)
        with self._lock:
            known = self._fetched.get(link.url_without_fragment)
        if known is None:
            known = fetch_requires_python(self.session, link.normalized, link.filename)
        with self._lock:
            return self._fetched.setdefault(link.url_without_fragment, known)

    def find_first(self, name: str, specifier: str) -> Candidate | None:
        """Return the best file for a project that no hash pins, wheels before sdists, or None if nothing fits.

        ``specifier`` is PEP 440 (``==5.1``). By uv's policy: of find-links and of the first index that has the project,
        unless the settings ask for the best of all; indexes for explicit sources are not asked. Raises FetchError.
        """
        return self._find_in(self._finder_of(self._sources_of(name)), name, specifier)

    def _sources_of(self, name: str) -> list[Source]:
        ordinary = self._ordinary()
        flat = [source for source in ordinary if source["type"] == "find_links"]
        asked = [source for source in ordinary if source["type"] != "find_links"]
        if self._sources.takes_best_of_all:
            return [*flat, *asked]
        for source in asked:
            if self._finder_of([source], ignore_compatibility=True).find_all_packages(name, allow_yanked=True):
                return [*flat, source]
        return flat

    def is_of_first(self, pin: Pin) -> bool:
        """Whether the sources that `find_first` asks have a file of the pin. Raises FetchError."""
        if self._sources.takes_best_of_all:
            return True
        hashes = {"sha256": [item.hex for item in pin.hashes]}
        finder = self._finder_of(self._sources_of(pin.name), ignore_compatibility=True)
        return bool(list(finder.find_matches(f"{pin.name}=={pin.version}", allow_yanked=True, hashes=hashes)))

    def find_hashes(self, name: str, version: str, known: Collection[str] = ()) -> tuple[FileHash, ...] | None:
        """Return the hashes of all files of a version, sorted, from the sources that `find_first` asks; None if none.

        If some are ``known``, only sources that have one of them count: what another calls so is another's.
        A file whose hash its page does not say is fetched to compute it, if it fits the target. Raises FetchError.
        """
        found: set[FileHash] | None = None
        sources = self._sources_of(name)
        for part in [[source] for source in sources] if known else [sources]:
            finder = self._finder_of(part, ignore_compatibility=True)
            matches = finder.find_matches(f"{name}=={version}", allow_yanked=True, allow_prereleases=True)
            links = [package.link for package in matches]
            hashes = self._hash_files(links)
            if links and self._has_one(links, hashes, known):
                found = (found or set()) | hashes
        return None if found is None else tuple(sorted(found, key=str))

    def _hash_files(self, links: Sequence[Link]) -> set[FileHash]:
        supported = {str(tag) for tag in make_target_python(self._target).supported_tags()}
        hashes = (_hash_of(link) or (self._compute_hash(link) if _fits(link, supported) else None) for link in links)
        return {value for value in hashes if value}

    def _has_one(self, links: Sequence[Link], hashes: Set[FileHash], known: Collection[str]) -> bool:
        """Whether one of the files is ``known``, if any is; the resolver may have read one that does not fit."""
        if not known or any(str(value) in known for value in hashes):
            return True
        return any(str(self._compute_hash(link)) in known for link in links if _hash_of(link) is None)

    def _compute_hash(self, link: Link) -> FileHash:
        if link.is_file:
            with link.file_path.open("rb") as file:
                return FileHash(hashlib.file_digest(file, "sha256").hexdigest())
        hashed = hashlib.sha256()
        try:
            with self.session.open(link.normalized) as response:
                for chunk in self.session.iter_body(link.normalized, response):
                    hashed.update(chunk)
        except TransientFailure as failure:
            raise failure.error from None
        return FileHash(hashed.hexdigest())

    def _finder_of(self, sources: Sequence[Source], *, ignore_compatibility: bool = False) -> PackageFinder:
        from unearth import PackageFinder

        python = make_target_python(self._target)
        finder = PackageFinder(
            as_fetcher(self.session), target_python=python, ignore_compatibility=ignore_compatibility
        )
        finder.sources[:] = sources
        return finder

    def find_pinned(self, pin: Pin) -> Candidate | None:
        """Return the file of the pin that fits the target best, or None if nothing fits. Raises FetchError.

        Indexes for explicit sources are asked only for what no other has: a lock does not say whose a pin is.
        """
        finders = [self._finder_for(pin)]
        if self._sources.uv.explicit and not pin.index:
            finders.insert(0, self._finder_of(self._ordinary()))
        found = (self._find_in(one, pin.name, f"=={pin.version}", pin.hashes, form=pin.form) for one in finders)
        return next(filter(None, found), None)

    def _ordinary(self) -> list[Source]:
        return [source for source in self._finder.sources if source["url"] not in self._sources.uv.explicit]

    def _finder_for(self, pin: Pin, *, ignore_compatibility: bool = False) -> PackageFinder:
        if pin.index:
            return self._finder_of([{"url": pin.index, "type": "index"}], ignore_compatibility=ignore_compatibility)
        return (
            self._finder_of(self._finder.sources, ignore_compatibility=True) if ignore_compatibility else self._finder
        )

    def find_offered(self, pin: Pin) -> tuple[OfferedFile, ...]:
        """Return all files that the pin's hashes allow, whether they fit or not, for a message. Raises FetchError."""
        finder = self._finder_for(pin, ignore_compatibility=True)
        hashes = {"sha256": [item.hex for item in pin.hashes]}
        found = finder.find_matches(f"{pin.name}=={pin.version}", allow_yanked=True, hashes=hashes)
        supported = {str(tag) for tag in make_target_python(self._target).supported_tags()}
        return tuple(self._offered(package.link, supported) for package in found)

    def _offered(self, link: Link, supported: Set[str]) -> OfferedFile:
        return OfferedFile(
            form=_form(link),
            tags="-".join(link.filename.removesuffix(".whl").split("-")[-3:]) if link.is_wheel else "",
            fits=_fits(link, supported),
            requires_python=self._requires_python(link),
        )

    def find_excluded(self, pin: Pin) -> tuple[str, ...]:
        """Return the versions of the pin's project of which Requires-Python excludes every fitting file.

        What no index says is not looked up. Raises FetchError.
        """
        finder = self._finder_of(self._finder.sources, ignore_compatibility=True)
        supported = {str(tag) for tag in make_target_python(self._target).supported_tags()}
        runs: dict[str, bool] = {}
        for package in finder.find_all_packages(pin.name, allow_yanked=True):
            link, version = package.link, package.version or ""
            if pin.form in ("", _form(link)) and _fits(link, supported):
                is_said = bool(link.requires_python) or link.is_file
                runs[version] = runs.get(version, False) or not is_said or self._runs(link)
        return tuple(version for version, allowed in runs.items() if not allowed)

    def find_local(self, artifact: Artifact) -> Path | None:
        """Return the file at the artifact's place in the repository, or with its name in a folder of find-links.

        It is unverified; None if there is none. Uses no network.
        """
        vendored = artifact.place if "://" not in artifact.place else ""
        paths = [self._sources.root / vendored] if vendored else []
        paths += [Path(link) / artifact.file for link in self._sources.find_links if "://" not in link]
        return next(filter(os.path.isfile, paths), None)  # where we may not look, there is none

    def find_place(self, file: PinnedFile, version: str) -> Candidate:
        """Return a file where the lock of another tool says that it is."""
        path = None if "://" in file.place else self._sources.root / file.place
        return Candidate(file=file.name, version=version, url=file.place, sha256=file.sha256, path=path)

    def describe_place(self, candidate: Candidate) -> str:
        """Return where a file is, for a sidecar: its URL without credentials, or its path in the repository."""
        if candidate.path is not None:
            return os.path.relpath(candidate.path, self._sources.root)
        parts = urlsplit(candidate.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))

    def find_listed_place(self, artifact: Artifact) -> tuple[Candidate, ...]:
        """Return the URL at which a lock of another tool says that the artifact's file is, if it says one."""
        if "://" not in artifact.place:
            return ()
        return (Candidate(file=artifact.file, version=artifact.version, url=artifact.place, sha256=artifact.sha256),)

    def find_file(self, artifact: Artifact) -> tuple[Candidate, ...]:
        """Return the sources of the artifact's file: right hash first, then unknown hash, then wrong hash.

        Sources are queried in turn until one has the right hash. Raises FetchError if none has the file and one of
        them could not be reached.
        """
        found: list[Candidate] = []
        failure: FetchError | None = None
        for source in self._finder.sources:
            try:
                found += _named(self.session, source, artifact)
            except FetchError as error:
                failure = failure or error
            if any(candidate.sha256 == artifact.sha256 for candidate in found):
                break
        if not found and failure:
            raise failure
        return tuple(sorted(found, key=lambda candidate: _rank(candidate, artifact)))


def _rank(candidate: Candidate, artifact: Artifact) -> int:
    if candidate.sha256 is None:
        return 1
    return 0 if candidate.sha256 == artifact.sha256 else 2


def _named(session: HttpSession, source: Source, artifact: Artifact) -> list[Candidate]:
    """Return links to the artifact's file, without evaluating the thousands of others on a page. Raises FetchError."""
    from unearth import Link
    from unearth.collector import collect_links_from_location

    flat = source["type"] == "find_links"
    place = source["url"] if flat else f"{source['url'].rstrip('/')}/{normalise_name(artifact.name)}/"
    link = Link(place) if "://" in place else Link.from_path(Path(place).absolute())
    try:
        links = [*collect_links_from_location(as_fetcher(session), link, expand=flat)]
    except OSError as error:  # of a folder
        raise FetchError(f"{place}: {error.strerror}") from None
    return [_candidate(link, artifact.version) for link in links if link.filename == artifact.file]


def _candidate(link: Link, version: str) -> Candidate:
    return Candidate(
        file=link.filename,
        version=version,
        url=link.normalized,
        sha256=_hash_of(link),
        path=link.file_path if link.is_file else None,
    )


def _hash_of(link: Link) -> FileHash | None:
    digits = (link.hash_option or {}).get("sha256", [""])[0]
    return FileHash(digits) if len(digits) == 64 else None


def _form(link: Link) -> str:
    return "wheel" if link.is_wheel else "sdist"


def _fits(link: Link, supported: Set[str]) -> bool:
    from packaging.utils import parse_wheel_filename

    return not link.is_wheel or any(str(tag) in supported for tag in parse_wheel_filename(link.filename)[3])
