"""Split the shell of a RUN instruction into simple commands. Pure.

Only what is certain is split: a command with a subshell, a loop, a redirection or a variable in its name is one that
nobody translates.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from buildkit.declare.instructions import Instruction

_SEPARATORS = {"&&", ";", "||", "&"}
_PIPES = {"|", "|&"}
_WRAPPERS = ("sudo", "exec", "time", "env")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_SHELLS = ("sh", "bash", "/bin/sh", "/bin/bash")
_PLAIN = re.compile(r"[\w@%+=:,./${}~*\[\]-]+")
_UNCERTAIN = {"if", "for", "while", "case", "function", "(", ")", "{", "}", "do", "then"}

Command = tuple[str, ...]
"""The words of a command; one with pipes begins with ``|``, and has them between its parts, too."""


def split_commands(instruction: Instruction) -> tuple[Command, ...] | None:
    """Return the commands of a RUN, each as its words; None if the shell of it does more than run one after another.

    The JSON form is one command. A here-document after the shell's name, or alone, is its script.
    """
    words = instruction.words
    if words is not None:
        return split_script(words[2]) if _is_shell(words) else (words,)
    if instruction.heredocs:
        alone = re.fullmatch(r"(?:(?:/bin/)?(?:ba)?sh(?: -e\w*)? )?<<-?[\"']?\w+[\"']?", instruction.value)
        if alone is None or len(instruction.heredocs) != 1:
            return None
        return split_script(instruction.heredocs[0].text)
    return split_script(instruction.value)


def split_script(text: str) -> tuple[Command, ...] | None:
    """Return the commands of a script; see `split_commands`."""
    commands: list[Command] = []
    for line in _logical_lines(text):
        try:
            found = list(_split_line(line))
        except ValueError:  # a quote without an end, or more than commands one after another
            return None
        commands += (command for command in map(_unwrap, found) if command)
    return tuple(commands)


def format_command(command: Command) -> str:
    """Return a command as a person would write it."""
    words = command[1:] if command[:1] == ("|",) else command
    return " ".join(word if word == "|" or _PLAIN.fullmatch(word) else shlex.quote(word) for word in words)


def _is_shell(words: tuple[str, ...]) -> bool:
    return len(words) == 3 and words[0] in _SHELLS and re.fullmatch(r"-\w*c", words[1]) is not None


def _logical_lines(text: str) -> Iterator[str]:
    joined = ""
    for line in text.splitlines():
        stripped = line.strip()
        if not joined and stripped.startswith("#"):
            continue
        joined += stripped.removesuffix("\\") + (" " if stripped.endswith("\\") else "")
        if not stripped.endswith("\\"):
            yield joined
            joined = ""
    if joined:
        yield joined


def _split_line(line: str) -> Iterator[Command]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    command: list[str] = []
    is_piped = False
    for word in lexer:
        if word in _PIPES:
            is_piped = True
            command.append("|")
        elif word in _SEPARATORS:
            yield _finish(command, is_piped=is_piped)
            command, is_piped = [], False
        elif word in _UNCERTAIN or (set(word) <= set("();<>") and word):
            raise ValueError(word)
        else:
            command.append(word)
    yield _finish(command, is_piped=is_piped)


def _finish(command: list[str], *, is_piped: bool) -> Command:
    if is_piped:  # what it does depends on both ends: one command of several words, which nobody knows
        return ("|", *command)
    return tuple(command)


def _unwrap(command: Command) -> Command:
    """Drop assignments and wrappers before a command, and ``set -e`` and its kind."""
    words = list(command)
    while words and (_ASSIGNMENT.fullmatch(words[0]) or words[0] in _WRAPPERS):
        words.pop(0)
    return () if words[:1] in (["set"], ["true"], [":"]) else tuple(words)
