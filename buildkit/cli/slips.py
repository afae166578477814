"""Answers to slips on the command line of Nox: a session that does not exist, a forgotten ``--``. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence


def explain_unknown(missing: Sequence[str], words: Sequence[str], sessions: Collection[str]) -> str:
    """Return what was meant by the names in ``missing``, a sentence each; ``words`` are all arguments of Nox."""
    told = {_explain(word, list(words), sorted(sessions)): None for word in missing}
    return " ".join(filter(None, told)) or "nox -l lists the sessions."


def _explain(word: str, words: list[str], sessions: list[str]) -> str:
    if word not in words:  # NOXSESSION, or --session=NAME
        return _suggest(word, sessions)
    place = words.index(word)
    before, after = words[place - 1] if place else "", words[place + 1] if place + 1 < len(words) else ""
    for joined in (f"{before}-{word}", f"{word}-{after}"):
        if joined in sessions:
            return f"The session of that stage is: nox -s {joined}"
    known = [at for at, name in enumerate(words[:place]) if name in sessions]
    if known and (_is_stage(word, sessions) or not _suggest(word, sessions, cutoff=0.8)):
        session, rest = words[known[-1]], shlex.join(words[known[-1] + 1 :])
        return f"The arguments of a session follow `--`: nox -s {session} -- {rest}"
    return _suggest(word, sessions)


def _is_stage(word: str, sessions: list[str]) -> bool:
    return any(name.endswith(f"-{word}") for name in sessions)


def _suggest(word: str, sessions: list[str], cutoff: float = 0.6) -> str:
    from difflib import get_close_matches

    of_stages = [name for name in sessions if name.startswith(f"{word}-")]
    near = of_stages or get_close_matches(word, sessions, n=1, cutoff=cutoff)
    return f"Did you mean {' or '.join(near)}?" if near else ""
