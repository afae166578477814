"""Which kinds of files a requirements lock allows: ``--no-binary`` and ``--only-binary``, as pip reads them.

Each takes project names, ``:all:`` or ``:none:``, separated by commas; a later option overrides an earlier one
(https://pip.pypa.io/en/stable/cli/pip_install/#cmdoption-no-binary). A project's own name counts before ``:all:``.
"""

from __future__ import annotations

import re
from dataclasses import field

from buildkit.lazy_dataclass import dataclass

_OPTION = re.compile(r"--(no|only)-binary(?:\s+|\s*=\s*)(\S+)")


@dataclass(slots=True)
class FileForms:
    """The options read so far."""

    _sdist: set[str] = field(default_factory=set)
    _wheel: set[str] = field(default_factory=set)

    def read(self, line: str) -> bool:
        """Read a line, and return whether it is one of the options."""
        option = _OPTION.fullmatch(line)
        if option:
            own, other = (self._sdist, self._wheel) if option[1] == "no" else (self._wheel, self._sdist)
            for word in option[2].split(","):
                _add(word, own, other)
        return option is not None

    def find(self, name: str) -> str:
        """Return the only kind of file (``sdist``, ``wheel``) that a normalised ``name`` may have, or nothing."""
        for word in (name, ":all:"):
            if word in self._wheel:
                return "wheel"
            if word in self._sdist:
                return "sdist"
        return ""


def _add(word: str, own: set[str], other: set[str]) -> None:
    if word == ":none:":
        own.clear()
        return
    if word == ":all:":
        own.clear()
        other.clear()
    name = re.sub(r"[-_.]+", "-", word).lower()
    other.discard(name)
    own.add(name)
