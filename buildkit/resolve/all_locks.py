"""``nox -s lock``: all locks of a checkout, decided first and written together at the end.

A lock that is not older than its input is left alone, so locking twice does nothing and needs no network. A failure or
an interrupt leaves all locks as they were.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property, partial

from buildkit.build.fetch import Fetcher
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Interrupted, Problem
from buildkit.events import Emit, ignore_event
from buildkit.locks.input_sources import InputSources, find_input_sources
from buildkit.resolve.apt import AptResolver, find_stale_apt, lock_apt
from buildkit.resolve.changes import describe_changes
from buildkit.resolve.choices import find_stale_choice, lock_choices
from buildkit.resolve.image_roots import ImageRoots, find_image_at
from buildkit.resolve.images import ImageLocker
from buildkit.resolve.meeting_wheels import check_meetings
from buildkit.resolve.missing_hashes import FindHashes, complete_hashes
from buildkit.resolve.models import ModelLocker
from buildkit.resolve.package_metadata import PackageResolver
from buildkit.resolve.packages import lock_packages
from buildkit.resolve.python import find_stale_own_python, lock_python
from buildkit.resolve.request import LockChange, LockDrafts, LockRequest, lock_of
from buildkit.resolve.requirements import find_stale, merge_groups
from buildkit.resolve.root_python import check_root_python
from buildkit.resolve.wheel_contents import WheelContents
from buildkit.resolve.wheels import find_stale_wheels, make_choose
from buildkit.tools.apt import resolve_apt
from buildkit.tools.finder import default_index
from buildkit.tools.http import HttpSession, RetryPolicy
from buildkit.tools.index_settings import IndexSettings, PackageSources, load_sources, pip_environment, uv_environment
from buildkit.tools.indexes import Candidate, Indexes
from buildkit.tools.process import stop_all
from buildkit.tools.registry import RegistryClient
from buildkit.tools.resolver import ResolveRequest
from buildkit.tools.standalone_python import list_pythons, pin_python
from buildkit.tools.uv_project import export_lock
from buildkit.worker_pool import WorkerPool


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewed:
    """Which locks are made although they are not stale: all, those of apt, that of images."""

    all: bool = False
    apt: bool = False
    images: bool = False


_STALE_ONLY = Renewed()


def lock_all(
    request: LockRequest, emit: Emit, renewed: Renewed = _STALE_ONLY, stop: threading.Event | None = None
) -> tuple[LockChange, ...]:
    """Make the locks that are missing, stale or to be ``renewed``; return the changes by file.

    Raises DefinitionError, ToolError, FetchError or Interrupted (``stop``), and then no lock has changed.
    """
    services = _LockServices(request, emit, stop or threading.Event())
    with closing(services):
        run_jobs(_jobs(request, services, emit, renewed), services.stop)
        if problems := check_root_python(request, services.drafts):
            raise DefinitionError.of(list(problems))
        if request.images:
            run_jobs([lambda: _check_meetings(request, services, emit)], services.stop)
    changes = tuple(
        LockChange(file=file, details=describe_changes(services.drafts.read_disk(file), services.drafts.get(file)))
        for file in services.drafts.changed()
    )
    services.drafts.write()
    return changes


class _LockServices:
    """The services that locking uses, each made on first use."""

    def __init__(self, request: LockRequest, emit: Emit, stop: threading.Event) -> None:
        self.request = request
        self.emit = emit
        self.stop = stop
        self.drafts = LockDrafts(request.root, request.project_inputs)
        self.places: dict[FileHash, Candidate] = {}

    def close(self) -> None:
        if "indexes" in self.__dict__:
            self.indexes.session.close()
        if "image_roots" in self.__dict__:
            self.image_roots.close()

    @cached_property
    def sources(self) -> PackageSources:
        return load_sources(self.request.root, os.environ)

    @cached_property
    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.stop)

    @cached_property
    def indexes(self) -> Indexes:
        return Indexes(self.sources, HttpSession(self.sources, self.retry_policy), self.request.target)

    def hash_finder(self, inputs: Sequence[str]) -> FindHashes:
        """Return what finds the hashes of all files of a version, for every processor, where its resolver has it.

        That is what the inputs name, or else the settings: a namesake in another place is another project.
        """
        named = find_input_sources(inputs, self.drafts.read)
        settings = self.indexes
        if named.no_index:
            uv = replace(self.sources.uv, no_index=True)
            settings = Indexes(replace(self.sources, uv=uv), settings.session, self.request.target)
        places = (*filter(None, [self._open_named(named)]), settings)
        targets = (self.request.target, *self.request.others)

        def find(name: str, version: str, known: Collection[str]) -> tuple[FileHash, ...]:
            for place in places:
                found = [place.of(target).find_hashes(name, version, known) for target in targets]
                if any(values is not None for values in found):
                    return tuple(value for values in found for value in values or ())
            return ()

        return find

    @cached_property
    def named(self) -> Indexes | None:
        """What the inputs name themselves; None if that is nothing."""
        inputs = dict.fromkeys(file for group in self.request.groups for file in group)
        return self._open_named(find_input_sources(inputs, self.drafts.read))

    def _open_named(self, named: InputSources) -> Indexes | None:
        links = tuple(link if "://" in link else str(self.request.root / link) for link in named.find_links)
        if not (named.indexes or links):
            return None
        index, *extra = named.indexes or ("",)
        settings = IndexSettings(index=index, extra=tuple(extra), find_links=links, no_index=not index)
        sources = replace(self.sources, pip=IndexSettings(), uv=settings)
        return Indexes(sources, self.indexes.session, self.request.target)

    @cached_property
    def fetcher(self) -> Fetcher:
        return Fetcher(self.indexes.session, self.indexes, self.retry_policy)

    def contents(self, target: Target) -> WheelContents:
        """Read into wheels for a target without fetching all of them."""
        return WheelContents(self.indexes.of(target), target, self.places)

    @cached_property
    def image_roots(self) -> ImageRoots:
        return ImageRoots(self.request.root, self.emit, self.stop)

    @property
    def apt(self) -> AptResolver:
        return AptResolver(resolve=resolve_apt, read_image=self.image_roots.read_files)

    @cached_property
    def images(self) -> ImageLocker:
        client = RegistryClient(self.stop)
        return ImageLocker(
            request=self.request,
            drafts=self.drafts,
            find=partial(find_image_at, client),
            roots=lambda: self.image_roots,
        )

    @cached_property
    def models(self) -> ModelLocker:
        return ModelLocker(self.request, self.drafts, lambda: self.fetcher, lambda: self.indexes, self.stop)


def _check_meetings(request: LockRequest, services: _LockServices, emit: Emit) -> None:
    for target in (request.target, *request.others):
        check_meetings(request.images, services.drafts, services.contents(target), emit, arch=target.lock_arch)


def check_locks(request: LockRequest) -> tuple[LockChange, ...]:
    """Return the locks that are missing, stale or in conflict with each other; writes nothing, and uses no network."""
    services = _LockServices(request, ignore_event, threading.Event())
    drafts, images, problems = services.drafts, services.images.find_stale(), list[Problem]()
    if not (images and request.target.sees_system):  # else nobody knows which packages the requirements stand on
        for group in merge_groups(request.groups):
            problems += find_stale(request, drafts, group)
    locks = sorted({lock_of(file) for group in request.groups for file in group})
    stale: list[Problem | None] = []
    for each in request.of_each_arch():
        stale += [find_stale_wheels(each, drafts, lock) for lock in locks if drafts.read(lock) is not None]
        stale += [find_stale_choice(each, drafts, choice) for choice in request.choices]
        stale += [find_stale_apt(apt_input, drafts, each.target) for apt_input in request.apt]
    stale += [find_stale_own_python(request, drafts)]
    stale += [services.models.find_stale(file) for file in request.models]
    problems += [problem for problem in stale if problem]
    problems += images
    problems += check_root_python(request, drafts)
    unique = {str(problem): problem for problem in problems}
    return tuple(LockChange(file=problem.file, details=(problem.what,)) for problem in unique.values())


def _jobs(request: LockRequest, services: _LockServices, emit: Emit, renewed: Renewed) -> list[Callable[[], None]]:
    """Return jobs that run at the same time."""
    drafts = services.drafts
    roots_done = threading.Event()

    def python() -> None:
        packages = PackageResolver(emit=emit, describe=request.describe, allowed=request.host_builds)
        # each tool is also given the other's settings, because downloads use both
        sources = services.sources
        env = uv_environment(sources, default_index()) if request.locker == "uv" else pip_environment(sources)
        roots_done.wait()  # the Python of the roots counts

        def resolve(asked: ResolveRequest) -> str:
            text = packages.resolve(_add_environment(asked, env))
            return complete_hashes(text, services.hash_finder(asked.inputs))

        choose = make_choose(
            lambda: services.indexes, locker=request.locker, named=lambda: services.named, places=services.places
        )  # fmt: skip
        lock_packages(request, drafts, resolve, choose, emit, upgrade=renewed.all)
        for each in request.of_each_arch():
            lock_choices(each, drafts, export_lock, choose, emit)

    def lock_each(requests: Sequence[LockRequest]) -> None:
        for one in requests:
            lock_apt(one, drafts, services.apt, emit, upgrade=renewed.all or renewed.apt)

    def roots() -> None:
        try:
            services.images.lock(emit, upgrade=renewed.all or renewed.images)
            lock_python(request, drafts, list_pythons, pin_python, emit, upgrade=renewed.all)
            each, one_reader = request.of_each_arch(), any(entry.image for entry in request.apt)
            groups = [each] if one_reader else [(part,) for part in each]
            run_jobs([partial(lock_each, group) for group in groups], services.stop)
        finally:
            roots_done.set()

    def models() -> None:
        for file in request.models:
            services.models.lock(file, emit, upgrade=renewed.all)

    wanted = ((python, request.groups or request.choices), (models, request.models))
    return [roots, *(job for job, inputs in wanted if inputs)]  # python waits for the roots, which start first


def _add_environment(asked: ResolveRequest, env: Mapping[str, str]) -> ResolveRequest:
    return replace(asked, env={**env, **asked.env})


def run_jobs(jobs: Sequence[Callable[[], None]], stop: threading.Event) -> None:
    """Run all jobs at once; definition errors are reported together, any other failure as it is.

    KeyboardInterrupt ends child processes and downloads, and becomes Interrupted.
    """
    with WorkerPool(max(len(jobs), 1)) as pool:
        try:
            futures = [pool.submit(job) for job in jobs]
            failures = [failure for future in futures if (failure := future.exception())]
        except KeyboardInterrupt:
            stop.set()
            stop_all()
            raise Interrupted("interrupted") from None
    definitions = [failure for failure in failures if isinstance(failure, DefinitionError)]
    others = [failure for failure in failures if not isinstance(failure, DefinitionError)]
    if others:
        raise others[0]
    if len(definitions) == 1:
        raise definitions[0]
    if definitions:
        raise DefinitionError.of([problem for error in definitions for problem in _problems(error)])


def _problems(error: DefinitionError) -> tuple[Problem, ...]:
    return error.problems or (Problem(file="requirements", what=error.message, hint=error.hint),)
