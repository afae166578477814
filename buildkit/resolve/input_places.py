"""Where inputs name projects, and the warnings of resolvers, placed there."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildkit.events import Emit, Note
from buildkit.locks.requirements_txt import normalise_name
from buildkit.resolve.request import LockDrafts

_NAME = re.compile(r"`([A-Za-z0-9][\w.-]*)(?:\[[^]]*\])?(?:[=<>!~].*?)?`|^([A-Za-z0-9][\w.-]*) [0-9]")  # of uv, of pip
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)")


class Warnings:
    """Passes a resolver's warnings on, each once, with the line of the input that names the project."""

    def __init__(self, drafts: LockDrafts, inputs: Sequence[str], emit: Emit) -> None:
        self._drafts = drafts
        self._inputs = inputs
        self._emit = emit
        self._known: set[str] = set()

    def add(self, warning: str) -> None:
        """Emit a warning (``The package `six==1.0` does not …``), unless it was emitted before."""
        if warning in self._known:
            return
        self._known.add(warning)
        self._emit(Note(text=f"{self._locate(warning)}: {warning}", warning=True))

    def _locate(self, warning: str) -> str:
        """Return FILE:LINE of the first project that the warning quotes and an input names, else the inputs."""
        for name in [quoted or plain for quoted, plain in _NAME.findall(warning)]:
            for file in self._inputs:
                if line := find_line(self._drafts.read(file) or "", name):
                    return f"{file}:{line}"
        return ", ".join(self._inputs)


def find_line(text: str, name: str) -> int:
    """Return the number of the line of an input that names a project, or 0."""
    for number, line in enumerate(text.splitlines(), 1):
        found = _REQUIREMENT.match(line)
        if found and normalise_name(found[1]) == normalise_name(name):
            return number
    return 0
