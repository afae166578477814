"""The parents of each pin, from the ``# via`` comments that uv and pip-compile write below it."""

from __future__ import annotations

import re

from buildkit.locks.requirements_txt import normalise_name

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*+)\s*+(?:\[[^]]*+\])?\s*+==|(?:-e\s+)?(\.{1,2}/[^\s;\[]*)")
_VIA = re.compile(r"\s+#\s+via(?:\s+(.*))?")
_MORE = re.compile(r"\s+#\s{2,}(\S.*)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def parse_via(text: str) -> dict[str, tuple[str, ...]]:
    """Return the normalised names of each pin's parents, by the pin's normalised name (a local package's path).

    A pin that only an input requires (``-r requirements/api.in``) has no parents.
    """
    needed: dict[str, list[str]] = {}
    current: list[str] | None = None
    in_comment = False
    for line in text.splitlines():
        if pin := _PIN.match(line):
            current = needed.setdefault(normalise_name(pin[1]) if pin[1] else pin[2].rstrip("/"), [])
            in_comment = False
        elif via := _VIA.fullmatch(line):
            in_comment = True
            _add(current, via[1] or "")
        elif in_comment and (more := _MORE.fullmatch(line)):
            _add(current, more[1])
    return {name: tuple(sorted(set(parents))) for name, parents in needed.items()}


def _add(parents: list[str] | None, word: str) -> None:
    name = _NAME.match(word)
    if parents is not None and name:  # `-r FILE` and `-c FILE` begin otherwise
        parents.append(normalise_name(name[0]))
