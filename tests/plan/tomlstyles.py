"""The same TOML values in many styles: order, tables, quotes, spaces and comments differ."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

_NOISE = ("", "", "", "  ", "# why", "\t# [root]", '# suite = "other"', "#")
_SPACES = ("", " ", "\t", "  ")
_ESCAPES = {"\n": "\\n", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


class Style:
    """One way of writing; equal seeds write alike. ``plain`` writes as people mostly do, without choices."""

    def __init__(self, seed: int, *, plain: bool = False) -> None:
        self._random = random.Random(seed)
        self._plain = plain

    def shuffled(self, items: list[Any]) -> list[Any]:
        """The same items in another order."""
        found = list(items)
        if not self._plain:
            self._random.shuffle(found)
        return found

    def chance(self, share: float = 0.5) -> bool:
        """Yes or no; always no for the plain style."""
        return not self._plain and self._random.random() < share

    def pick(self, *choices: str) -> str:
        """One of them; the first for the plain style."""
        return choices[0] if self._plain else self._random.choice(choices)

    def document(self, table: dict[str, Any]) -> str:
        """Text of a whole TOML file."""
        lines = list(self._block(table, (), "", top=True))
        dressed = [line for each in lines for line in self._dressed(each)]
        return self.pick("\n", "\n", "\r\n").join(dressed) + self.pick("\n", "")

    def comment(self) -> str:
        """A blank line, or a comment at the start of its line."""
        return self.pick("", "# why", "# via x", "#", "#tools/data")

    # lines

    def _dressed(self, line: str) -> list[str]:
        if self._plain or "\n" in line:
            return [line]
        before = [self.pick(*_NOISE)] if self.chance(0.3) else []
        return [*before, self.pick(*_SPACES) + line + self.pick("", "", "  ", " # why", " #x = 1")]

    def _block(self, table: dict[str, Any], path: tuple[str, ...], header: str, *, top: bool = False) -> Iterator[str]:
        """A table under its header: what stands in it, and the tables below, each under a header of its own."""
        inside: list[str] = []
        below: list[list[str]] = []
        for key, value in self.shuffled(list(table.items())):
            if isinstance(value, dict) and not self._inline(value):
                if not value or self.chance(0.3):
                    inside += self._dotted((key,), value)
                else:
                    below.append(list(self._block(value, (*path, key), self._header(*path, key))))
            elif _is_tables(value) and not self.chance(0.3):
                header_of_item = f"[{self._header(*path, key)}]"
                below.append([line for item in value for line in self._block(item, (*path, key), header_of_item)])
            else:
                inside.append(self._pair((key,), value))
        own = [header, *self.shuffled(inside)] if header else self.shuffled(inside)
        blocks = self.shuffled(below)
        in_list = header.startswith("[[")  # the item's tables must follow it
        if not top and not in_list and blocks and self.chance():
            blocks.insert(self._random.randrange(len(blocks) + 1), own)
        else:
            blocks.insert(0, own)
        for block in blocks:
            yield from block

    def _inline(self, value: dict[str, Any]) -> bool:
        return self.chance(0.3)

    def _header(self, *path: str) -> str:
        space = self.pick("", "", " ")
        return f"[{space}{self._dots(path)}{space}]"

    def _dotted(self, path: tuple[str, ...], table: dict[str, Any]) -> Iterator[str]:
        if not table:
            yield self._pair(path, table)
        for key, value in table.items():
            if isinstance(value, dict) and value and self.chance():
                yield from self._dotted((*path, key), value)
            else:
                yield self._pair((*path, key), value)

    def _pair(self, path: tuple[str, ...], value: Any) -> str:
        return f"{self._dots(path)}{self.pick(' ', *_SPACES)}={self.pick(' ', *_SPACES)}{self.value(value)}"

    def _dots(self, path: tuple[str, ...]) -> str:
        return self.pick(".", ".", " . ").join(self._key(key) for key in path)

    def _key(self, key: str) -> str:
        bare = [key] if re.fullmatch(r"[A-Za-z0-9_-]+", key) else []
        return self.pick(*bare, _basic(key), f"'{key}'")

    # values

    def value(self, value: Any) -> str:
        """One value, on one line but for multi-line strings and lists."""
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int):
            return self.pick(str(value), hex(value), f"{value:_}", oct(value))
        if isinstance(value, float):
            return self.pick(repr(value), f"{value:e}")
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            space = self.pick(" ", "")
            pairs = [self._pair((key,), item) for key, item in self.shuffled(list(value.items()))]
            return "{" + space + f",{space}".join(pairs) + space + "}"
        items = [self.value(item) for item in value]
        if items and self.chance(0.3):
            return "[\n" + "".join(f"  {item}, # why\n" for item in items) + "]"
        return "[" + self.pick(", ", ",", " , ").join(items) + (self.pick("", ",") if items else "") + "]"

    def _text(self, text: str) -> str:
        quoted = [_basic(text)]
        if "'" not in text and "\n" not in text:
            quoted += [f"'{text}'", f"'''{text}'''"]
        if '"' not in text and "\\" not in text:
            quoted += [f'"""\n{text}"""', f'"""\\\n   {text}"""'] if text[:1].strip() else [f'"""\n{text}"""']
        if text:
            quoted.append(f'"\\u{ord(text[0]):04x}{_basic(text[1:])[1:]}')
        return self.pick(*quoted)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _basic(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(letter, letter) for letter in text) + '"'
