"""Make wheels locks from requirements locks: the file of every pin that the target's images get."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from buildkit.declare.lock_choice import find_kind
from buildkit.declare.target import ARCHES
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError, Problem
from buildkit.events import Emit, step
from buildkit.locks.freshness import check_fresh, wheels_inputs
from buildkit.locks.pins import Artifact, Pin
from buildkit.locks.root_release import target_of
from buildkit.locks.wheels_lock import make_wheels_lock, parse_wheels_lock, render_wheels_lock, wheels_lock_path
from buildkit.resolve.commits import choose_commit
from buildkit.resolve.request import LockDrafts, LockRequest, lock_of
from buildkit.resolve.requirements import applicable_pins
from buildkit.worker_pool import WorkerPool

if TYPE_CHECKING:
    from buildkit.declare.target import Target
    from buildkit.tools.indexes import Candidate, Indexes, OfferedFile

_CONCURRENT_REQUESTS = 8  # index pages fetched at the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class UnfitPin:
    """Why no file of a pin fits, and the versions that Requires-Python excludes if that is the reason."""

    problem: Problem
    excluded: tuple[tuple[str, str], ...] = ()


class ExcludedByPythonError(DefinitionError):
    """The images' Python may not have pins; ``versions`` are names with all versions that are known to exclude it."""

    details = (*DefinitionError.details, "versions")

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        output: str = "",
        problems: tuple[Problem, ...] = (),
        versions: Sequence[Sequence[str]] = (),
    ) -> None:
        super().__init__(message, hint=hint, output=output, problems=problems)
        self.versions = tuple((name, version) for name, version in versions)

    @classmethod
    def of_pins(cls, pins: Sequence[UnfitPin]) -> ExcludedByPythonError:
        """One error for all ``pins`` (at least one)."""
        error = DefinitionError.of([pin.problem for pin in pins])
        versions = tuple(version for pin in pins for version in pin.excluded)
        return cls(error.message, hint=error.hint, problems=error.problems, versions=versions)


Choose = Callable[[Pin, "Target"], Artifact | UnfitPin]
_Identity = tuple["Target", str, str, str, str]


def lock_wheels(request: LockRequest, drafts: LockDrafts, choose: Choose, emit: Emit) -> None:
    """Decide every wheels lock that is older than its requirements lock.

    Raises DefinitionError with every pin that has no fitting file (ExcludedByPythonError if Requires-Python is the
    reason for all of them), and FetchError.
    """
    locks = sorted({lock_of(file) for group in request.groups for file in group})
    stale = [lock for lock in locks if find_stale_wheels(request, drafts, lock)]
    if not stale:
        return
    pins = {lock: applicable_pins(request, drafts, lock) for lock in stale}
    targets = {lock: target_of(drafts.get(lock), request.target) for lock in stale}
    known = _known(drafts, targets)
    unique = {_identity(pin, targets[lock]): pin for lock, found in pins.items() for pin in found}

    def choose_or_keep(pin: Pin, target: Target) -> Artifact | UnfitPin:
        return _kept(pin, known.get((target, pin.name, pin.version))) or choose(pin, target)

    with step(emit, f"choose {len(unique)} files", "lock"):
        chosen = _choose_all(unique, choose_or_keep)
    for lock, found in pins.items():
        artifacts = tuple(chosen[_identity(pin, targets[lock])] for pin in found)
        inputs = wheels_inputs(drafts.get(lock), request.target)
        wheels_lock = make_wheels_lock(inputs, targets[lock], artifacts)
        drafts.decide(wheels_lock_path(lock, request.target.lock_arch), render_wheels_lock(wheels_lock))


def choose_files(pins: Sequence[Pin], target: Target, choose: Choose) -> tuple[Artifact, ...]:
    """Return the file of each pin. Raises DefinitionError with every pin that has no fitting file, and FetchError."""
    chosen = _choose_all({_identity(pin, target): pin for pin in pins}, choose)
    return tuple(chosen[_identity(pin, target)] for pin in pins)


def _choose_all(pins: Mapping[_Identity, Pin], choose: Choose) -> dict[_Identity, Artifact]:
    with WorkerPool(_CONCURRENT_REQUESTS) as pool:
        answers = list(pool.map(lambda key: choose(pins[key], key[0]), pins))
    if unfit := [answer for answer in answers if isinstance(answer, UnfitPin)]:
        if all(pin.excluded for pin in unfit):
            raise ExcludedByPythonError.of_pins(unfit)
        raise DefinitionError.of([pin.problem for pin in unfit])
    pairs = zip(pins, answers, strict=True)
    return {key: answer for key, answer in pairs if isinstance(answer, Artifact)}


def _identity(pin: Pin, target: Target) -> _Identity:
    return target, pin.name, pin.version, pin.path, pin.form


def find_stale_wheels(request: LockRequest, drafts: LockDrafts, lock: str) -> Problem | None:
    """Return the problem of the wheels lock of the requirements ``lock``, or None."""
    path = wheels_lock_path(lock, request.target.lock_arch)
    text = drafts.read(path)
    if problem := check_fresh(path, text, wheels_inputs(drafts.get(lock), request.target)):
        return problem
    try:
        parse_wheels_lock(text or "", path)
    except DefinitionError as error:
        return error.problems[0]
    return None


def make_choose(
    indexes: Callable[[], Indexes],
    *,
    locker: str = "uv",
    named: Callable[[], Indexes | None] = lambda: None,
    places: dict[FileHash, Candidate] | None = None,
) -> Choose:
    """Return a function that finds, in the indexes, the file of a pin that fits a target, and its size.

    ``named`` are the sources that inputs name themselves; the place of a file that only they have is kept. ``places``
    gets the place of each file that was found.
    pip-tools takes the best version of all indexes, as pip does; it is refused where uv's rule counts and differs.
    """
    lock = threading.Lock()

    def choose(pin: Pin, target: Target) -> Artifact | UnfitPin:
        if pin.path:
            return Artifact(name=pin.name, version=pin.version, path=pin.path)
        if pin.git is not None:
            return choose_commit(pin, pin.git)
        with lock:
            found = indexes().of(target)
        if pin.files:
            return _choose_listed(pin, found, target)
        best, keeps_place = found.find_pinned(pin), bool(pin.index)
        if best is None:
            with lock:
                own = named()
            best = own.of(target).find_pinned(pin) if own else None
            keeps_place = best is not None
        if best is None:
            return _unfit(pin, found, target)
        if locker == "pip-tools" and not keeps_place and not found.is_of_first(pin):
            return UnfitPin(problem=_of_later_index(pin))
        sha256 = best.sha256 or (pin.hashes[0] if len(pin.hashes) == 1 else None)
        if sha256 is None:
            raise FetchError(f"{pin.name}=={pin.version}: the index gives no sha256 for {best.file}")
        if places is not None:
            places[sha256] = best
        place = found.describe_place(best) if keeps_place else ""
        return Artifact(
            name=pin.name, version=pin.version, file=best.file, sha256=sha256, size=size_of(best, found), place=place
        )  # fmt: skip

    return choose


def _choose_listed(pin: Pin, indexes: Indexes, target: Target) -> Artifact | UnfitPin:
    """Return the file that fits best of those that the lock lists; the server says its size if the lock does not."""
    from buildkit.tools.listed_files import describe_listed, find_listed

    best = find_listed(pin, target)
    if best is None:
        what, hint = _explain(pin, describe_listed(pin, target), target)
        what = f"{pin.name}=={pin.version}{what}"
        return UnfitPin(problem=Problem(file=pin.at, what=what, hint=hint))
    size = best.size if best.size is not None else size_of(indexes.find_place(best, pin.version), indexes)
    return Artifact(
        name=pin.name, version=pin.version, file=best.name, sha256=best.sha256, size=size, place=best.place
    )  # fmt: skip


def size_of(candidate: Candidate, indexes: Indexes) -> int:
    """Return the bytes of the candidate's file. Raises FetchError if its server does not report them."""
    if candidate.path is not None:
        return candidate.path.stat().st_size
    size = indexes.session.find_size(candidate.url)
    if size is None:
        raise FetchError(f"the server does not report the size of {candidate.file}")
    return size


def _of_later_index(pin: Pin) -> Problem:
    return Problem(
        file=pin.at,
        what=f"pip-tools took {pin.name}=={pin.version} of an index after the first one that has {pin.name}",
        hint='set locker = "uv", which keeps the order, or allow any index: index-strategy = "unsafe-best-match" in '
        "[tool.uv]",
    )


def _unfit(pin: Pin, indexes: Indexes, target: Target) -> UnfitPin:
    offered = indexes.find_offered(pin)
    needs = sorted({file.requires_python for file in _allowed(pin, offered) if file.fits})
    what, hint = _explain_python(needs, target) if needs else _explain(pin, offered, target)
    problem = Problem(file=pin.at, what=f"{pin.name}=={pin.version}{what}", hint=hint)
    others = indexes.find_excluded(pin) if needs else ()
    versions = dict.fromkeys((pin.version, *others)) if needs else ()
    return UnfitPin(problem=problem, excluded=tuple((pin.name, version) for version in versions))


def _allowed(pin: Pin, offered: Sequence[OfferedFile]) -> list[OfferedFile]:
    return [file for file in offered if pin.form in ("", file.form)]


def _explain_python(needs: Sequence[str], target: Target) -> tuple[str, str]:
    hint = "allow another version in the input or its lock, or change the images' Python"
    return f" needs Python {', '.join(needs)}, and the images have {target.python}", hint


def _explain(pin: Pin, offered: Sequence[OfferedFile], target: Target) -> tuple[str, str]:
    """Return why no file fits, to follow the pin, and a hint."""
    if not offered:
        return (
            ": no index and no find-links has a file with one of its hashes",
            "check the index settings of pip and uv",
        )
    allowed = _allowed(pin, offered)
    owner, only_sdists, only_wheels = _FORM_WORDS.get(find_kind(pin.file), _FORM_WORDS[""])
    if pin.form == "sdist" and not allowed:
        hint = f"write `{only_sdists}` without {pin.name}, or pin a version that has an sdist"
        return f": the {owner}'s `{only_sdists}` allows no wheel, and there is no sdist", hint
    tags = sorted({file.tags for file in offered if file.tags})
    shown = ", ".join(tags[:6]) + (f" and {len(tags) - 6} more" if len(tags) > 6 else "")
    sdist = "there is no sdist" if len(allowed) == len(offered) else f"the {owner}'s `{only_wheels}` allows no sdist"
    fits = f"Python {target.minor}, glibc {target.glibc}, {target.arch}"
    return (
        f": no wheel fits {fits}, and {sdist}",
        f"there are wheels for {shown or 'nothing'}{_elsewhere(pin, target, tags)}",
    )


def _elsewhere(pin: Pin, target: Target, tags: Sequence[str]) -> str:
    """Return the ways out for a pin that has wheels for another processor only; empty for others."""
    if not any(tag.endswith(f"_{arch}") for tag in tags for arch in ARCHES if arch != target.arch):
        return ""
    return (
        f"; pin a version that has one for {target.arch}, or leave it out there: "
        f"{pin.name} ; platform_machine != '{target.arch}'"
    )


_FORM_WORDS = {  # what forbids wheels, and what forbids sdists, by the kind of lock
    "": ("input", "--no-binary", "--only-binary"),
    "uv": ("project", "no-binary", "no-build"),
    "poetry": ("project", "no-binary", "only-binary"),
}


def _known(drafts: LockDrafts, targets: Mapping[str, Target]) -> Mapping[tuple[Target, str, str], Artifact]:
    """Return the wheels of ``targets``, by lock, that were chosen before and need not be looked up again."""
    known: dict[tuple[Target, str, str], Artifact] = {}
    for lock, target in targets.items():
        path = wheels_lock_path(lock, target.lock_arch)
        try:
            old = parse_wheels_lock(drafts.read(path) or "", path)
        except DefinitionError:
            continue
        if (old.python, old.glibc, old.arch) == (target.python, target.glibc, target.arch):
            known.update({(target, artifact.name, artifact.version): artifact for artifact in old.artifacts})
    return known


def _kept(pin: Pin, artifact: Artifact | None) -> Artifact | None:
    hashes: tuple[FileHash, ...] = pin.hashes
    if pin.git is not None:
        return artifact if artifact and artifact.git == pin.git else None
    fits = artifact and artifact.is_wheel and artifact.sha256 in hashes and pin.form != "sdist"
    return artifact if fits else None
