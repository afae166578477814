"""Make the sidecars of locks of other tools (uv.lock): which file of every pin the target's images get.

The pins are those of the other tool, as they are. Its lock is never written.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass, replace

from buildkit.declare.lock_choice import LockChoice
from buildkit.declare.target import Target
from buildkit.errors import DefinitionError, Problem
from buildkit.events import Emit, step
from buildkit.locks.choice_forms import find_form_options, make_forms
from buildkit.locks.choice_inputs import check_choice, choice_inputs
from buildkit.locks.pins import Pin
from buildkit.locks.poetry_lock import PoetryReader
from buildkit.locks.pylock import PylockReader
from buildkit.locks.wheels_lock import make_wheels_lock, parse_wheels_lock, render_wheels_lock, wheels_lock_path
from buildkit.resolve.request import LockDrafts, LockRequest, find_release_for
from buildkit.resolve.wheels import Choose, choose_files
from buildkit.tools.uv_project import ExportRequest

Export = Callable[[ExportRequest], str]


def lock_choices(request: LockRequest, drafts: LockDrafts, export: Export, choose: Choose, emit: Emit) -> None:
    """Decide the sidecar of every choice that is older than the lock, or than what its projects need.

    Raises DefinitionError, FetchError and what ``export`` raises.
    """
    for choice in request.choices:
        if drafts.read(choice.file) is None and (problem := find_stale_choice(request, drafts, choice)):
            raise DefinitionError.of([problem])
        if find_stale_choice(request, drafts, choice):
            with step(emit, f"read {choice}", "lock"):
                _ChoiceLocker(request, drafts, export).lock(choice, choose)


def find_stale_choice(request: LockRequest, drafts: LockDrafts, choice: LockChoice) -> Problem | None:
    """Return the problem of the sidecar of ``choice``, or None."""
    release = find_release_for(request, drafts, (choice.id,))
    if problem := check_choice(choice, drafts.read, request.target, release):
        return problem
    sidecar = wheels_lock_path(choice.id, request.target.lock_arch)
    try:
        parse_wheels_lock(drafts.get(sidecar), sidecar)
    except DefinitionError as error:
        return error.problems[0]
    return None


@dataclass(frozen=True, slots=True)
class _ChoiceLocker:
    request: LockRequest
    drafts: LockDrafts
    export: Export

    def lock(self, choice: LockChoice, choose: Choose) -> None:
        request, drafts = self.request, self.drafts
        release = find_release_for(request, drafts, (choice.id,))
        target = replace(request.target, python=release or request.target.python)
        forms = make_forms(find_form_options(choice, drafts.read))
        pins = tuple(
            pin if pin.path or pin.git else replace(pin, form=forms.find(pin.name))
            for pin in self._read(choice, target)
        )
        artifacts = choose_files(pins, target, choose)
        inputs = choice_inputs(choice, drafts.read, request.target)
        sidecar = wheels_lock_path(choice.id, target.lock_arch)
        drafts.decide(sidecar, render_wheels_lock(make_wheels_lock(inputs, target, artifacts), release))

    def _read(self, choice: LockChoice, target: Target) -> tuple[Pin, ...]:
        text = self.drafts.get(choice.file)
        if choice.kind == "poetry":
            project = self.drafts.get(posixpath.join(choice.folder, "pyproject.toml"))
            describe = self.drafts.describe_local
            return PoetryReader(choice=choice, lock=text, pyproject=project, describe_local=describe).read(target)
        reader = PylockReader(choice=choice, lines=text, describe_local=self.drafts.describe_local)
        if choice.kind == "uv":
            asked = ExportRequest(
                root=self.request.root,
                choice=choice,
                python=target.markers["python_full_version"],
                host_builds=self.request.host_builds,
            )
            text = self.export(asked)
        return reader.read(text, target)
