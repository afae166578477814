"""YAML by PyYAML's own parser: tags as they resolve, keys and values as they are composed; nothing is constructed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Any

from buildkit.findings import Rule, Severity
from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import namedcode, structures
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.paths import find_escape
from buildkit.scan.limits import LimitError

YAML_TAG = Rule(
    id="yaml-python-tag",
    title="YAML that creates objects of a program",
    severity=Severity.CRITICAL,
    why="PyYAML's unsafe loaders call what the tag names, with the arguments that follow; other languages do alike.",
    advice="Do not load the file; read YAML with `safe_load`.",
    references=("CVE-2020-14343", "https://pyyaml.org/wiki/PyYAMLDocumentation"),
)
OWN_TAG = Rule(
    id="yaml-own-tag",
    title="YAML with a tag of an application",
    severity=Severity.LOW,
    why="A loader that knows the tag runs a function of its own for it; which one, only the application knows.",
    advice="Find out what the application does with the tag.",
)
BOMB = Rule(
    id="yaml-alias-bomb",
    title="YAML that grows enormously when its aliases are followed",
    severity=Severity.MEDIUM,
    why="Whoever copies, prints or resolves it runs out of memory or time.",
    advice="Do not load the file.",
    references=("CWE-776",),
)
_CORE = "tag:yaml.org,2002:"
_PLAIN = re.compile(
    r"(?:str|int|float|bool|null|map|seq|set|omap|pairs|binary|timestamp|merge|value|yaml"
    r"|python/(?:none|bool|str|unicode|bytes|int|long|float|complex|list|tuple|dict)(?::.*)?)"
)
_HYPER = re.compile(r"!(new|name|apply|module):(.+)", re.DOTALL)
_OWN = re.compile(r"(?:!|tag:)\w[\w:./,%!-]*")  # an image in Markdown begins with an exclamation mark, too
_HARMLESS = frozenset({"!", "!ref", "!copy", "!tuple", "!list", "!PLACEHOLDER"})
_MOST_NODES = 2_000_000
_MOST_WEIGHT = 10_000_000
_MOST_REPEATED = 1000  # values of a collection that stands again at each of its aliases
_SMALL = 64 * 2**10  # characters that both of PyYAML's parsers read


@dataclass(slots=True)
class _BlockStream:
    """A stream of text, within a limit of characters."""

    blocks: Iterator[str]
    most: int
    count: int = 0
    nodes: int = 0

    def read(self, size: int) -> str:
        """Return the next block, of any size."""
        del size
        block = next(self.blocks, "")
        self.count += len(block)
        if self.count > self.most:
            if self.nodes < 2:  # nothing but one long text, which no loader acts on
                return ""
            raise LimitError(f"YAML of more than {self.most} characters")
        return block


def check(context: ScanContext, blocks: Iterable[str]) -> None:
    """Check a text that may be YAML, given in parts; what PyYAML refuses is checked up to there.

    Raises:
        LimitError: there is more of it than is read.
    """
    import yaml

    parts = iter(blocks)
    first = next(parts, "")
    loaders = [getattr(yaml, "CBaseLoader", yaml.BaseLoader)]
    rest = next(parts, "")
    if len(first) <= _SMALL and not rest:
        loaders = list(dict.fromkeys([*loaders, yaml.BaseLoader]))
        for loader in loaders:
            _check_stream(context, loader, iter([first]))
        return

    def again() -> Iterator[str]:
        yield first
        yield rest
        yield from parts

    _check_stream(context, loaders[0], again())


def _check_stream(context: ScanContext, loader: Any, blocks: Iterator[str]) -> None:  # noqa: ANN401 - yaml has no types
    import yaml

    stream = _BlockStream(blocks, context.budget.limits.json)
    composer = _Composer(context, stream)
    try:
        for event in yaml.parse(stream, Loader=loader):
            composer.take(event)
    except (yaml.YAMLError, ValueError):
        pass  # no loader constructs anything of this document
    except RecursionError:
        raise LimitError("YAML nested deeper than we follow") from None
    finally:
        composer.finish()


@dataclass(slots=True)
class _OpenCollection:
    """A collection that is being read; a mapping's items are its keys and values in turn."""

    is_mapping: bool
    anchor: str | None
    items: list[object] = field(default_factory=list)
    weight: int = 1

    def close(self) -> object:
        """Return the collection."""
        if not self.is_mapping:
            return self.items
        keys = (key if isinstance(key, str) else f"\0{type(key).__name__}" for key in self.items[::2])
        inner = [value for key in self.items[::2] if not isinstance(key, str) for value in [key]]
        return structures.make_object([*zip(keys, self.items[1::2], strict=False), *(("\0", key) for key in inner)])


class _Composer:
    """Make plain values of events, and check tags on the way."""

    def __init__(self, context: ScanContext, stream: _BlockStream) -> None:
        self._context = context
        self._stream = stream
        self._stack: list[_OpenCollection] = []
        self._anchors: dict[str, tuple[object, int]] = {}
        self._roots: list[object] = []
        self._bomb = False

    def take(self, event: Any) -> None:  # noqa: ANN401 - yaml has no types
        """Take the next event."""
        kind = type(event).__name__
        if tag := getattr(event, "tag", None):
            check_tag(self._context, tag)
        if kind == "DocumentStartEvent":
            self._anchors.clear()
        elif kind == "ScalarEvent":
            self._put(event.value, 1, event.anchor)
        elif kind == "AliasEvent":
            value, weight = self._anchors.get(event.anchor, (None, 1))
            self._put(value if weight <= _MOST_REPEATED else None, weight, None)  # it is checked at its anchor
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._stack.append(_OpenCollection(kind[0] == "M", event.anchor))
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            frame = self._stack.pop()
            self._put(frame.close(), frame.weight, frame.anchor)

    def _put(self, value: object, weight: int, anchor: str | None) -> None:
        self._stream.nodes += 1
        if self._stream.nodes > _MOST_NODES:
            raise LimitError(f"YAML of more than {_MOST_NODES} values")
        if anchor:
            self._anchors[anchor] = value, weight
        if not self._stack:
            self._roots.append(value)
            return
        top = self._stack[-1]
        top.items.append(value)
        top.weight = min(top.weight + weight, 2**62)
        if top.weight > _MOST_WEIGHT and not self._bomb:
            self._bomb = True
            self._context.find(BOMB, f"its aliases stand for more than {_MOST_WEIGHT} values")

    def finish(self) -> None:
        """Check all that was read, also if it does not end."""
        for frame in self._stack:
            self._roots.append(frame.close())
        roots = [root for root in self._roots if isinstance(root, dict | list)]
        structures.check(self._context, roots, shared=True)


def check_tag(context: ScanContext, tag: str) -> None:
    """Check a resolved tag."""
    shown = f"it has the tag {quote(tag)}"
    if tag.startswith(_CORE):
        rest = tag.removeprefix(_CORE)
        if not _PLAIN.fullmatch(rest):
            context.find(YAML_TAG, shown, severity=None if rest.startswith("python") else Severity.HIGH)
        elif rest.startswith("python/"):
            context.find(OWN_TAG, shown, severity=Severity.NOTE)
    elif hyper := _HYPER.fullmatch(tag):
        namedcode.check_target(context, hyper[2])
    elif tag.startswith("!include:"):
        if why := find_escape(tag.removeprefix("!include:")):
            context.find(OWN_TAG, f"{shown}, whose path {why}", severity=Severity.HIGH)
    elif re.match(r"!(?:ruby|perl|php|js|java)\b", tag):
        context.find(YAML_TAG, shown, severity=Severity.HIGH)
    elif tag not in _HARMLESS and _OWN.fullmatch(tag):
        context.find(OWN_TAG, shown)
