"""Make apt locks from apt lists."""

from __future__ import annotations

from collections.abc import Callable

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, step
from buildkit.layers.root.apt_sources import render_sources
from buildkit.locks.apt_lock import AptLock, apt_lock_path, parse_apt_list, parse_apt_lock, render_apt_lock
from buildkit.locks.freshness import apt_inputs, check_fresh
from buildkit.locks.pins import AptPin
from buildkit.resolve.request import AptInput, LockDrafts, LockRequest
from buildkit.tools.apt import AptResolveRequest

ResolveApt = Callable[[AptResolveRequest], tuple[AptPin, ...]]


def lock_apt(request: LockRequest, drafts: LockDrafts, resolve: ResolveApt, emit: Emit, *, upgrade: bool) -> None:
    """Decide every stale apt lock (with ``upgrade``, every one), the lowest first.

    Raises what ``resolve`` raises, and DefinitionError for an invalid list.
    """
    for apt_list in request.apt:
        if not upgrade and not find_stale_apt(apt_list, drafts, request.target):
            continue
        packages = parse_apt_list(drafts.get(apt_list.file), apt_list.file)
        kept = _base_pins(apt_list, drafts, request.target)
        with step(emit, _name(apt_list, request.target), "lock"):
            resolved = resolve(
                AptResolveRequest(
                    packages=packages,
                    suite=apt_list.suite,
                    variant=apt_list.variant,
                    arch=request.target.deb_arch,
                    components=apt_list.components,
                    sources=_sources(apt_list, request.target),
                    kept=kept,
                    preferred=() if upgrade else _old_pins(apt_list, drafts, request.target),
                    file=apt_list.file,
                )
            )
        names = {pin.name for pin in kept}
        pins = tuple(pin for pin in resolved if pin.name not in names)
        text = render_apt_lock(AptLock(inputs=_inputs(apt_list, drafts, request.target), pins=pins))
        drafts.decide(apt_lock_path(apt_list.file, request.target.lock_arch), text)


def find_stale_apt(apt_list: AptInput, drafts: LockDrafts, target: Target) -> Problem | None:
    """Return the problem of an apt list's lock, or None."""
    path = apt_lock_path(apt_list.file, target.lock_arch)
    text = drafts.read(path)
    if problem := check_fresh(path, text, _inputs(apt_list, drafts, target)):
        return problem
    try:
        parse_apt_lock(text or "", path)
    except DefinitionError as error:
        return error.problems[0]
    return None


def _inputs(apt_list: AptInput, drafts: LockDrafts, target: Target) -> FileHash:
    base = "".join(drafts.read(apt_lock_path(file, target.lock_arch)) or "" for file in apt_list.base)
    sources = _sources(apt_list, target)
    return apt_inputs(
        drafts.get(apt_list.file),
        base=base,
        suite=apt_list.suite,
        variant=apt_list.variant,
        components=",".join(apt_list.components),
        arch=target.deb_arch,
        **({"sources": sources} if sources else {}),
    )


def _sources(apt_list: AptInput, target: Target) -> str:
    return render_sources(apt_list.suite, apt_list.components, apt_list.archives, target.deb_arch)


def _name(apt_list: AptInput, target: Target) -> str:
    arch = f" for {target.arch}" if target.lock_arch else ""
    return f"lock {apt_list.file.rpartition('/')[2]}{arch}"


def _base_pins(apt_list: AptInput, drafts: LockDrafts, target: Target) -> tuple[AptPin, ...]:
    locks = (apt_lock_path(file, target.lock_arch) for file in apt_list.base)
    return tuple(pin for lock in locks for pin in parse_apt_lock(drafts.get(lock), lock).pins)


def _old_pins(apt_list: AptInput, drafts: LockDrafts, target: Target) -> tuple[AptPin, ...]:
    path = apt_lock_path(apt_list.file, target.lock_arch)
    try:
        return parse_apt_lock(drafts.read(path) or "", path).pins
    except DefinitionError:
        return ()
