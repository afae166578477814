"""GitHub's expressions, as far as our workflows use them. An unknown name is an error, never an empty string."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

Functions = Mapping[str, Callable[..., Any]]

_TOKEN = re.compile(
    r"\s*(?:(?P<text>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?)|(?P<name>[A-Za-z_][\w-]*)"
    r"|(?P<mark>&&|\|\||==|!=|[!().,\[\]]))"
)
_WORDS = {"true": True, "false": False, "null": None}
_WHOLE = re.compile(r"\$\{\{(?P<inner>(?:(?!\}\}).)*)\}\}", re.DOTALL)


class ExpressionError(ValueError):
    """An expression that is malformed, or names a value that does not exist."""


def fill(text: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """Return ``text`` with each ``${{ … }}`` replaced; text that is one expression keeps the type of its value."""
    whole = _WHOLE.fullmatch(text.strip())
    if whole:
        return evaluate(whole["inner"], contexts, functions)
    return _WHOLE.sub(lambda found: to_text(evaluate(found["inner"], contexts, functions)), text)


def to_text(value: Any) -> str:
    """Return a value as a string, as GitHub converts it."""
    if isinstance(value, (dict, list)):
        raise ExpressionError(f"{value} would be printed as its type: use toJSON")
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def evaluate(text: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    """Return the value of one expression, given without ``${{ }}``."""
    parser = _Parser(text, contexts, functions)
    value = parser.either()
    if parser.kind:
        raise ExpressionError(f"`{text}`: cannot read {parser.word!r}")
    return value


def is_true(value: Any) -> bool:
    """Return whether a value counts as true; an object or a list always does, even if empty."""
    return isinstance(value, (dict, list)) or bool(value)


def is_equal(left: Any, right: Any) -> bool:
    """Compare loosely, as GitHub does: text without regard to case, different types as numbers."""
    if isinstance(left, str) and isinstance(right, str):
        return left.lower() == right.lower()
    if isinstance(left, (dict, list)) and isinstance(right, (dict, list)):
        return left is right
    if left is None and right is None:
        return True
    return _number(left) == _number(right)


def _number(value: Any) -> float:
    if isinstance(value, (dict, list)):
        return math.nan
    try:
        return float(value or 0)
    except ValueError:
        return math.nan


class _Parser:
    """Parse and evaluate at once; short-circuited operands are not evaluated, but their names must exist."""

    def __init__(self, text: str, contexts: Mapping[str, Any], functions: Functions) -> None:
        self._text = text
        self._at = 0
        self._idle = 0  # how many enclosing `&&` and `||` are short-circuited
        self._contexts = contexts
        self._functions: Functions = {"fromJSON": json.loads, "toJSON": json.dumps, **functions}
        self.kind = self.word = ""
        self._next()

    def _next(self) -> None:
        if not self._text[self._at :].strip():
            self.kind = self.word = ""
            return
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise ExpressionError(f"`{self._text}`: cannot read {self._text[self._at :]!r}")
        self._at = found.end()
        self.kind, self.word = str(found.lastgroup), found[str(found.lastgroup)]

    def _take(self, *words: str) -> str:
        word = self.word
        if self.kind != "mark" or word not in words:
            return ""
        self._next()
        return word

    def _expect(self, word: str) -> None:
        if not self._take(word):
            raise ExpressionError(f"`{self._text}`: {word!r} is missing before {self.word!r}")

    def either(self) -> Any:
        value = self._both()
        while self._take("||"):
            over = is_true(value)
            other = self._aside(self._both, over)
            value = value if over else other
        return value

    def _both(self) -> Any:
        value = self._same()
        while self._take("&&"):
            over = not is_true(value)
            other = self._aside(self._same, over)
            value = value if over else other
        return value

    def _aside(self, read: Callable[[], Any], over: bool) -> Any:
        self._idle += over
        value = read()
        self._idle -= over
        return value

    def _same(self) -> Any:
        value = self._denied()
        while word := self._take("==", "!="):
            value = is_equal(value, self._denied()) == (word == "==")
        return value

    def _denied(self) -> Any:
        if self._take("!"):
            return not is_true(self._denied())
        return self._path(self._atom())

    def _atom(self) -> Any:
        kind, word = self.kind, self.word
        if self._take("("):
            value = self.either()
            self._expect(")")
            return value
        if not kind or kind == "mark":
            raise ExpressionError(f"`{self._text}`: something is missing before {word!r}")
        self._next()
        if kind == "text":
            return word[1:-1].replace("''", "'")
        if kind == "number":
            return float(word) if "." in word else int(word)
        if self._take("("):
            return self._call(word)
        if word in _WORDS:
            return _WORDS[word]
        if word not in self._contexts:
            raise ExpressionError(f"`{self._text}`: {word} is not known")
        return self._contexts[word]

    def _call(self, name: str) -> Any:
        arguments: list[Any] = []
        while not self._take(")"):
            if arguments:
                self._expect(",")
            arguments.append(self.either())
        if name not in self._functions:
            raise ExpressionError(f"`{self._text}`: {name}() is not known")
        return None if self._idle else self._functions[name](*arguments)

    def _path(self, value: Any) -> Any:
        while word := self._take(".", "["):
            if word == "[":
                index = self.either()
                self._expect("]")
                value = self._at_index(value, index)
            else:
                name = self.word
                self._next()
                value = self._get(value, name)
        return value

    def _at_index(self, value: Any, index: Any) -> Any:
        if self._idle or not isinstance(value, list):
            return self._get(value, index)
        return value[index] if index < len(value) else None  # as GitHub does, and our workflow needs it

    def _get(self, value: Any, name: str) -> Any:
        if self._idle:
            return None
        if not isinstance(value, Mapping) or name not in value:
            raise ExpressionError(f"`{self._text}`: there is no {name!r}")
        return value[name]
