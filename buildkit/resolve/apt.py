"""Apt lists to apt locks."""

from __future__ import annotations

from collections.abc import Callable

from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, step
from buildkit.locks.apt_lock import AptLock, apt_lock_path, parse_apt_list, parse_apt_lock, render_apt_lock
from buildkit.locks.freshness import apt_inputs, check_fresh
from buildkit.locks.pins import AptPin
from buildkit.resolve.request import AptInput, LockDrafts, LockRequest
from buildkit.tools.apt import AptResolveRequest

ResolveApt = Callable[[AptResolveRequest], tuple[AptPin, ...]]


def lock_apt(request: LockRequest, drafts: LockDrafts, resolve: ResolveApt, emit: Emit, *, upgrade: bool) -> None:
    """Decide every apt lock that is stale (with ``upgrade``, every one), those underneath first.

    Raises what ``resolve`` raises, and DefinitionError for a list that cannot be read.
    """
    for wanted in request.apt:
        if not upgrade and not find_stale_apt(wanted, drafts, request.target):
            continue
        packages = parse_apt_list(drafts.get(wanted.file), wanted.file)
        kept = _base_pins(wanted, drafts)
        with step(emit, f"lock {wanted.file.rpartition('/')[2]}", "lock"):
            resolved = resolve(
                AptResolveRequest(
                    packages=packages,
                    suite=wanted.suite,
                    variant=wanted.variant,
                    arch=request.target.deb_arch,
                    components=wanted.components,
                    mirrors=wanted.mirrors,
                    kept=kept,
                    preferred=() if upgrade else _old_pins(wanted, drafts),
                    file=wanted.file,
                )
            )
        names = {pin.name for pin in kept}
        pins = tuple(pin for pin in resolved if pin.name not in names)
        text = render_apt_lock(AptLock(inputs=_inputs(wanted, drafts, request.target), pins=pins))
        drafts.decide(apt_lock_path(wanted.file), text)


def find_stale_apt(wanted: AptInput, drafts: LockDrafts, target: Target) -> Problem | None:
    """What is wrong with the lock of an apt list, or None."""
    path = apt_lock_path(wanted.file)
    text = drafts.read(path)
    if problem := check_fresh(path, text, _inputs(wanted, drafts, target)):
        return problem
    try:
        parse_apt_lock(text or "", path)
    except DefinitionError as error:
        return error.problems[0]
    return None


def _inputs(wanted: AptInput, drafts: LockDrafts, target: Target) -> FileHash:
    base = "".join(drafts.read(apt_lock_path(file)) or "" for file in wanted.base)
    return apt_inputs(
        drafts.get(wanted.file),
        base=base,
        suite=wanted.suite,
        variant=wanted.variant,
        components=",".join(wanted.components),
        arch=target.deb_arch,
    )


def _base_pins(wanted: AptInput, drafts: LockDrafts) -> tuple[AptPin, ...]:
    locks = (apt_lock_path(file) for file in wanted.base)
    return tuple(pin for lock in locks for pin in parse_apt_lock(drafts.get(lock), lock).pins)


def _old_pins(wanted: AptInput, drafts: LockDrafts) -> tuple[AptPin, ...]:
    path = apt_lock_path(wanted.file)
    try:
        return parse_apt_lock(drafts.read(path) or "", path).pins
    except DefinitionError:
        return ()
