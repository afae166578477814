"""Make requirements locks from inputs: inputs used in one image are first resolved together, so that they agree."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from buildkit.build.copy_source import suggest_path
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem, ToolError
from buildkit.events import Emit, Note, step
from buildkit.locks.freshness import check_fresh, find_inputs, render_header, render_system, requirements_inputs
from buildkit.locks.input_lines import allows_prereleases, find_input_problems
from buildkit.locks.input_sources import find_linked_folders
from buildkit.locks.pins import Pin
from buildkit.locks.project_input import find_shown
from buildkit.locks.requirement_inputs import find_places, is_moved
from buildkit.locks.requirements_txt import applicable, check_agreement, parse_requirements
from buildkit.locks.root_release import target_of
from buildkit.locks.system_packages import hash_packages
from buildkit.locks.uv_sources import find_source_problems, find_sourced
from buildkit.resolve.input_places import Warnings, find_line
from buildkit.resolve.request import LockDrafts, LockRequest, find_installed, find_release_for, input_of, lock_of
from buildkit.tools.installed_wheels import find_conflicts
from buildkit.tools.resolver import ResolveRequest

Resolve = Callable[[ResolveRequest], str]


def lock_requirements(request: LockRequest, drafts: LockDrafts, resolve: Resolve, emit: Emit, *, upgrade: bool) -> None:
    """Decide every stale requirements lock (with ``upgrade``, every one).

    Raises DefinitionError if locks cannot agree, and what ``resolve`` raises.
    """
    decided: set[str] = set()
    for group in merge_groups(request.groups):
        todo = [file for file in group if drafts.read(file) is not None and file not in decided]
        if not todo or not (upgrade or find_stale(request, drafts, group)):
            continue
        if foreign := [problem for file in todo if (problem := _check_ours(lock_of(file), file, drafts))]:
            raise DefinitionError.of(foreign)
        if unlockable := [problem for file in todo for problem in _find_problems(file, request, drafts)]:
            raise DefinitionError.of(unlockable)
        _lock_group(_GroupLocker(request, drafts, resolve, upgrade), tuple(group), frozenset(decided), emit)
        decided.update(todo)
    for group in merge_groups(request.groups):
        if problems := check_group(request, drafts, group):
            raise DefinitionError.of(list(problems))


def _check_ours(lock: str, file: str, drafts: LockDrafts) -> Problem | None:
    """Return the problem of a lock that somebody else made: it is never overwritten without being asked."""
    text = drafts.read_disk(lock)
    if not text or not text.strip() or find_inputs(text) is not None:
        return None
    what = f"was not made by `nox -s lock`, and {file} would replace it"
    return Problem(file=lock, what=what, hint=f"if {file} is what you write from now on, run: rm {lock}")


def merge_groups(groups: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], ...]:
    """Return the groups, larger ones first, without duplicates and without subsets of other groups."""
    unique = sorted({tuple(sorted(set(group))) for group in groups if group}, key=lambda group: (-len(group), group))
    return tuple(group for group in unique if not any(set(group) < set(other) for other in unique))


def find_stale(request: LockRequest, drafts: LockDrafts, group: Sequence[str]) -> tuple[Problem, ...]:
    """Return the problems of a group's locks: missing, older than their input, unreadable, or in conflict."""
    problems = [
        problem for file in group if drafts.read(file) is not None and (problem := _check_fresh(request, drafts, file))
    ]
    if problems:
        return tuple(problems)
    try:
        return check_group(request, drafts, group)
    except DefinitionError as error:
        return error.problems


def check_group(request: LockRequest, drafts: LockDrafts, group: Sequence[str]) -> tuple[Problem, ...]:
    """Return the versions that a group's locks must not have: those on which they differ, and excluded ones.

    Raises DefinitionError for an invalid lock.
    """
    pins = {file: applicable_pins(request, drafts, lock_of(file)) for file in group}
    return check_agreement(pins) + tuple(
        Problem(file=pin.at, what=f"{pin.name}=={pin.version} is excluded", hint="run: nox -s lock")
        for found in pins.values()
        for pin in found
        if (pin.name, pin.version) in request.excluded
    )


def applicable_pins(request: LockRequest, drafts: LockDrafts, lock: str) -> tuple[Pin, ...]:
    """Return the pins of a lock that apply to the target with the lock's Python. Raises DefinitionError.

    Pins of a lock that is not on disk, and may never be, have their places in its input.
    """
    pins = read_pins(drafts, lock)
    if drafts.get(lock) != drafts.read_disk(lock):
        inputs = [file for group in request.groups for file in group if lock_of(file) == lock and drafts.read(file)]
        pins = tuple(_at_input(pin, inputs[0], drafts) if inputs else pin for pin in pins)
    return applicable(pins, target_of(drafts.get(lock), request.target))


def _at_input(pin: Pin, file: str, drafts: LockDrafts) -> Pin:
    return replace(pin, file=file, line=find_line(drafts.get(file), pin.name))


def read_pins(drafts: LockDrafts, lock: str) -> tuple[Pin, ...]:
    """Return the pins of a lock. Raises DefinitionError; for a lock that is not on disk, it names the input."""
    try:
        return parse_requirements(drafts.get(lock), lock, describe_local=drafts.describe_local)
    except DefinitionError as error:
        if drafts.get(lock) == drafts.read_disk(lock):
            raise
        file = find_shown(input_of(lock), drafts.project_inputs)
        what = "what it resolves to cannot be locked: {}"
        raise DefinitionError.of(
            [replace(problem, file=file, what=what.format(problem.what), hint="") for problem in error.problems]
        ) from error


@dataclass(frozen=True, slots=True)
class _GroupLocker:
    """Resolves the files of a group."""

    request: LockRequest
    drafts: LockDrafts
    ask: Resolve
    upgrade: bool
    env: tuple[tuple[str, str], ...] = ()
    warn: Callable[[str], None] = field(default=lambda _warning: None, compare=False)

    def resolve(self, inputs: tuple[str, ...], *, preferred: str = "", constraints: str = "") -> str:
        """Return the text of the lock of ``inputs``."""
        request = self.request
        release = find_release_for(request, self.drafts, inputs)
        installed = find_installed(request, self.drafts, inputs)
        if request.locker == "pip-tools" and not release:
            self.warn(
                f'python = "{request.target.python}" names no release, so pip-tools judges by the Python of this host; '
                "set the root's full version in [tool.buildkit]"
            )
        text = self._ask(
            ResolveRequest(
                root=request.root, inputs=inputs, python=release or request.target.python, locker=request.locker,
                env=dict(self.env), preferred=preferred, warn=self.warn,
                prereleases=any(allows_prereleases(file, self.drafts.read) for file in inputs),
                sourced=tuple(found.text for file in inputs for found in find_sourced(file, self.drafts.read)),
                installed=tuple(sorted(installed.items())),
                texts={file: self.drafts.get(file) for file in inputs if file in request.project_inputs},
                constraints=constraints + "".join(f"{name}!={version}\n" for name, version in request.excluded),
            )
        )  # fmt: skip
        if request.locker != "uv":
            return text
        places: dict[str, frozenset[str]] = {}
        for file in inputs:
            for written, folders in find_places(file, self.drafts.read).items():
                places[written] = places.get(written, frozenset()) | folders
        return move_paths(text, places)

    def _ask(self, asked: ResolveRequest) -> str:
        """Return the text of the lock. Raises DefinitionError at the line that names a project which no index has."""
        try:
            return self.ask(asked)
        except ToolError as error:
            if _REFUSED.search(error.output):
                raise  # an index that wants credentials may have it
            if conflicts := [self._conflict(asked, *found) for found in find_conflicts(error.output, asked.installed)]:
                raise DefinitionError.of(conflicts) from error
            names = [first or second for first, second in _MISSING.findall(error.output)]
            places = [
                (file, find_line(self.drafts.read(file) or "", name), name) for file in asked.inputs for name in names
            ]
            problems = [self._missing(file, line, name) for file, line, name in dict.fromkeys(places) if line]
            if problems:
                raise DefinitionError.of(problems) from error
            raise

    def _conflict(self, asked: ResolveRequest, name: str, wanted: str, installed: str) -> Problem:
        """Return the problem of a requirement that the root image does not meet."""
        lines = ((file, find_line(self.drafts.read(file) or "", name)) for file in asked.inputs)
        place = next((f"{file}:{line}" for file, line in lines if line), ", ".join(asked.inputs))
        what = f"{name}{wanted} is wanted, and the root image has {name} {installed}"
        hint = 'allow that version, take another image, or set site-packages = "own" in [tool.buildkit]'
        return Problem(file=place, what=what, hint=hint)

    def _missing(self, file: str, line: int, name: str) -> Problem:
        choice = self.request.project_inputs.get(file)
        place = choice.file if choice else f"{file}:{line}"
        hint = "check its name, and the index settings of pip and uv"
        return Problem(file=place, what=f"no index has `{name}`", hint=hint)

    def resolve_together(self, inputs: tuple[str, ...], preferred: str, emit: Emit) -> str:
        """Resolve all inputs at once, keeping ``preferred`` versions if possible."""
        try:
            return self.resolve(inputs, preferred=preferred)
        except ToolError:
            if not preferred:
                raise
        # uv cannot keep a version of which the first of several equal indexes lacks the fitting file
        text = self.resolve(inputs)
        emit(
            Note(
                text=f"{', '.join(inputs)}: the old versions could not be kept, so all were resolved again",
                warning=True,
            )
        )
        return text

    def resolve_part(self, file: str, together: str) -> str:
        """Resolve one of the files that were resolved together, at exactly those versions."""
        pins = parse_requirements(together, "the common lock", describe_local=self.drafts.describe_local)
        limits = "".join(_line(replace(pin, hashes=())) for pin in pins if not (pin.path or pin.git or pin.files))
        if self.request.locker == "uv":
            warm = replace(
                self, env=(("UV_OFFLINE", "1"),)
            )  # everything was just fetched: asking the indexes again takes seconds
            with suppress(ToolError):
                return warm.resolve((file,), constraints=limits)
        return self.resolve((file,), constraints=limits)


def move_paths(text: str, places: Mapping[str, Collection[str]]) -> str:
    """Return uv's lock, in which paths are as they are written, with paths relative to the checkout.

    ``places`` are the folders that each written path means. Raises DefinitionError if they are several.
    """
    lines = text.splitlines(keepends=True)
    for number, line in enumerate(lines):
        found = _PATH.match(line)
        if not found or found["path"] not in places or not is_moved(found["path"], places[found["path"]]):
            continue
        folder, *others = sorted(places[found["path"]])
        if others:
            what = f"`{found['path']}` means {' and '.join((folder, *others))}: [tool.uv.sources] of packages differ"
            raise DefinitionError(what, hint=f"write one of them in another way, as in: ./{found['path']}")
        lines[number] = f"{found['editable']}{folder if folder.startswith('../') else f'./{folder}'}{found['rest']}"
    return "".join(lines)


_PATH = re.compile(r"(?P<editable>(?:-e )?)(?P<path>[^\s#;-][^\s;]*)(?P<rest>.*)", re.DOTALL)


# of uv, and of pip-tools
_REFUSED = re.compile(r"\b(?:401|403)\b|credentials")
_MISSING = re.compile(
    r"(\S+) was not found in the (?:package registry|provided)|No matching distribution found for ([\w.-]+)"
)


def _lock_group(group: _GroupLocker, files: tuple[str, ...], decided: frozenset[str], emit: Emit) -> None:
    drafts = group.drafts
    warnings = Warnings(drafts, files, emit)
    group = replace(group, warn=warnings.add)
    todo = tuple(file for file in files if file not in decided and drafts.read(file) is not None)
    inputs = tuple(file for file in files if drafts.read(file) is not None)
    fixed = [lock_of(file) for file in sorted(decided)]  # of other groups too: a third group may contain both
    kept = [] if group.upgrade else [lock_of(file) for file in todo]
    preferred = _preferences(drafts, (*fixed, *kept))
    if len(files) > 1:
        with step(emit, f"lock {' + '.join(_short(file) for file in files)}", "lock"):
            preferred = group.resolve_together(inputs, preferred, emit)
    for file in todo:
        with step(emit, f"lock {_short(file)}", "lock"):
            text = (
                group.resolve_part(file, preferred)
                if len(files) > 1
                else group.resolve_together((file,), preferred, emit)
            )
        drafts.decide(lock_of(file), text)  # whose members of workspaces are inputs, too
        header = render_header(_inputs(group.request, drafts, file), find_release_for(group.request, drafts, (file,)))
        header += render_system(hash_packages(find_installed(group.request, drafts, (file,))))
        drafts.decide(lock_of(file), f"{header}# Made by `nox -s lock`.\n{text}")


def _preferences(drafts: LockDrafts, locks: Sequence[str]) -> str:
    """Return the pins that the resolver should keep, each once; earlier locks win, invalid ones are ignored."""
    lines: dict[tuple[str, str], str] = {}
    names: dict[str, str] = {}
    for lock in locks:
        try:
            pins = read_pins(drafts, lock)
        except DefinitionError:
            continue
        for pin in pins:
            if not (pin.path or pin.git or pin.files) and names.setdefault(pin.name, lock) == lock:
                lines[pin.name, pin.marker] = _line(pin)
    return "".join(lines.values())


def _line(pin: Pin) -> str:
    marker = f" ; {pin.marker}" if pin.marker else ""
    hashes = "".join(f" \\\n    --hash={item}" for item in pin.hashes)
    return f"{pin.name}=={pin.version}{marker}{hashes}\n"


def _inputs(request: LockRequest, drafts: LockDrafts, file: str) -> FileHash:
    return requirements_inputs(file, drafts.read, request.target, locker=request.locker)


def _find_problems(file: str, request: LockRequest, drafts: LockDrafts) -> list[Problem]:
    found = find_input_problems(file, drafts.read, request.locker) + find_source_problems(
        file, drafts.read, request.locker
    )
    for place, at in find_linked_folders(file, drafts.read):
        if not (request.root / place).exists():
            hint = suggest_path(request.root, place) or "a path of --find-links is relative to the file that names it"
            found.append(Problem(file=at, what=f"--find-links: there is no {place}", hint=hint))
    if (choice := request.project_inputs.get(file)) is None:
        return found
    return [replace(problem, file=choice.file) if problem.file.startswith(f"{file}:") else problem for problem in found]


def _check_fresh(request: LockRequest, drafts: LockDrafts, file: str) -> Problem | None:
    release = find_release_for(request, drafts, (file,))
    system = hash_packages(find_installed(request, drafts, (file,)))
    return check_fresh(lock_of(file), drafts.read(lock_of(file)), _inputs(request, drafts, file), release, system)


def _short(file: str) -> str:
    return file.rpartition("/")[2].rpartition(".")[0]
