"""Who asked for a pin: the ``# via`` comments that uv and pip-compile write below each pin of a lock."""

from __future__ import annotations

import re

from buildkit.locks.requirements_txt import normalise_name

_PIN = re.compile(r"([A-Za-z0-9][\w.-]*+)\s*+(?:\[[^]]*+\])?\s*+==|(?:-e\s+)?(\.{1,2}/[^\s;\[]*)")
_VIA = re.compile(r"\s+#\s+via(?:\s+(.*))?")
_MORE = re.compile(r"\s+#\s{2,}(\S.*)")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


def parse_via(text: str) -> dict[str, tuple[str, ...]]:
    """Normalised names of what needs each pin, by the pin's normalised name (or its path, for the repository's own).

    A pin that an input asks for itself (``-r requirements/api.in``) is there with what else needs it, maybe nothing.
    """
    needed: dict[str, list[str]] = {}
    current: list[str] | None = None
    told = False
    for line in text.splitlines():
        if pin := _PIN.match(line):
            current = needed.setdefault(normalise_name(pin[1]) if pin[1] else pin[2].rstrip("/"), [])
            told = False
        elif via := _VIA.fullmatch(line):
            told = True
            _add(current, via[1] or "")
        elif told and (more := _MORE.fullmatch(line)):
            _add(current, more[1])
    return {name: tuple(sorted(set(parents))) for name, parents in needed.items()}


def _add(parents: list[str] | None, word: str) -> None:
    name = _NAME.match(word)
    if parents is not None and name:  # `-r FILE` and `-c FILE` begin otherwise
        parents.append(normalise_name(name[0]))
