"""Where a template reaches beyond its data: attributes by unsafe or assembled names, dangerous calls, endless work."""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set

import jinja2.sandbox
from jinja2 import nodes

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import word_set
from buildkit.scan.formats.templates.rules import BURDEN, ESCAPE, REACH
from buildkit.scan.formats.templates.values import Origin, Possible

_CALLS = word_set("eval exec popen system subprocess builtins importlib os open __import__ getattr setattr compile")
_PATHS = {"attr": 0, "selectattr": 0, "rejectattr": 0, "groupby": 0, "sort": 2, "unique": 1, "min": 1, "max": 1,
          "sum": 0, "join": 1}  # fmt: skip
_HELPERS = frozenset({"lipsum", "get_flashed_messages", "url_for"})
_MAKERS = frozenset({"cycler", "joiner", "namespace"})
_INTERNAL = word_set(
    "mro f_back f_builtins f_code f_globals f_locals tb_frame tb_next co_code co_consts co_names gi_frame gi_code "
    "gi_yieldfrom cr_frame cr_code cr_await ag_frame ag_code ag_await func_globals func_code func_closure im_func "
    "im_self"
)
_UNSAFE = _INTERNAL.union(*(names for name, names in vars(jinja2.sandbox).items() if name.startswith("UNSAFE_")))
_DUNDER = re.compile(
    r"__(?:class|mro|bases?|subclasses|globals|builtins|import|init|dict|getattr\w*|reduce\w*|code|new|call|func|self|"
    r"module|loader|spec|closure|wrapped|getitem|setattr|delattr|subclasshook|init_subclass)(?:__|\b)"
)
_WIDTH = re.compile(r"[%:][^\d\s%:]{0,9}(\d{7,40})")
_MOST_FINDINGS = 20  # of each rule
_MOST_TURNS = 1_000_000


def is_unsafe(name: str) -> bool:
    """Return whether an attribute leads from a value to Python's internals, as Jinja's sandbox judges it."""
    return name.startswith("__") or name in _UNSAFE or (name.startswith("_") and "__" in name)


class Sinks:
    """Report to ``context``; the findings of each rule in one template are limited, and each is reported once."""

    def __init__(self, context: ScanContext, text: str) -> None:
        self._context = context
        self._lines = re.split(r"\r\n|\r|\n", text)
        self._found: defaultdict[str, set[tuple[int, str]]] = defaultdict(set)

    def report(self, node: nodes.Node, rule: Rule, what: str, severity: Severity | None = None) -> None:
        """Report a finding at the node's line."""
        found, place = self._found[rule.id], (node.lineno, what)
        if place in found or len(found) >= _MOST_FINDINGS:
            return
        found.add(place)
        line = self._lines[node.lineno - 1].strip() if node.lineno <= len(self._lines) else ""
        self._context.find(rule, f"it {what}: {quote(line)}", severity=severity)

    def attribute(self, node: nodes.Getattr) -> None:
        """Check ``value.name``."""
        if is_unsafe(node.attr):
            self.report(node, ESCAPE, f"uses {quote(node.attr)}")
        elif node.attr.startswith("_"):
            self.report(node, ESCAPE, f"uses {quote(node.attr)}", Severity.HIGH)

    def key(self, node: nodes.Node, key: Possible, *, dotted: bool = False) -> None:
        """Check a name by which an attribute is taken; with ``dotted``, the path of a filter."""
        for text in key.texts:
            if any(is_unsafe(part) for part in (text.split(".") if dotted else [text])):
                self.report(node, ESCAPE, f"takes the attribute {quote(text)}")
        if Origin.MADE in key.origin:
            self.report(node, REACH, "takes an attribute by a name that it assembles")
        elif key.origin & (Origin.TOKENS | Origin.TOKEN) or (dotted and key.origin):
            self.report(node, REACH, "takes an attribute by a name that is not in the template")

    def filters(self, node: nodes.Filter, args: Sequence[Possible], named: Mapping[str, Possible]) -> None:
        """Check a filter: some take attributes by name, and `map` takes other filters by name."""
        if node.name == "attr" or (node.name == "map" and args and ("attr" in args[0].texts or args[0].origin)):
            self.report(node, REACH, "takes an attribute by name")
        place = _PATHS.get(node.name, len(args))
        for path in (*args[place : place + 1], *(value for name, value in named.items() if name == "attribute")):
            self.key(node, path, dotted=True)

    def texts(self, node: nodes.Node, value: Possible) -> None:
        """Check texts that lead nowhere that we can see."""
        for text in value.texts:
            if found := _DUNDER.search(text):
                self.report(node, ESCAPE, f"has the text {quote(found.group())}")

    def formats(self, node: nodes.Node, value: Possible) -> None:
        """Check a text whose method ``format`` is called: its fields may take attributes."""
        for text in value.texts:
            for field in _fields(text):
                if any(is_unsafe(part) for part in re.split(r"[.\[\]]", field)):
                    self.report(node, ESCAPE, f"formats with the field {quote(field)}")
        if Origin.MADE in value.origin:
            self.report(node, REACH, "formats with a text that it assembles")

    def called(self, node: nodes.Call, callee: Possible, variables: Set[str]) -> None:
        """Check what is called: a method or function by its name; not what the template puts into ``variables``."""
        name = node.node.attr if isinstance(node.node, nodes.Getattr) else getattr(node.node, "name", "")
        owner = node.node.node if isinstance(node.node, nodes.Getattr) else None
        for word in (name, getattr(owner, "attr", "")):
            if word in _CALLS:
                self.report(node, ESCAPE, f"calls {quote(word)}")
        if Origin.REACHED in callee.origin:
            self.report(node, REACH, "calls what it takes by a name that is not in the template")
        elif not isinstance(node.node, nodes.Getattr | nodes.Name) or (name in variables and not owner):
            self.report(node, REACH, "calls what it computes")

    def name(self, node: nodes.Name, *, owner: bool, assigned: bool) -> None:
        """Check a variable; ``owner`` means that something is taken from it."""
        if node.name.startswith("__"):
            self.report(node, ESCAPE, f"uses {quote(node.name)}")
        elif node.name in _HELPERS or (owner and node.name in _MAKERS and not assigned):
            self.report(node, REACH, f"uses {quote(node.name)}")

    def turns(self, node: nodes.Node, count: int) -> None:
        """Check how often a loop turns, with those around it."""
        if count > _MOST_TURNS:
            self.report(node, BURDEN, f"loops {count} times")

    def size(self, node: nodes.Node, count: float) -> None:
        """Check the size of a text or list that is made at once, or the digits of a number."""
        if count > _MOST_TURNS:
            self.report(node, BURDEN, f"makes something of size {count:g}")

    def widths(self, node: nodes.Node, value: Possible) -> None:
        """Check a text that may be a format for the widths of its fields."""
        for text in value.texts:
            for width in _WIDTH.findall(text):
                self.size(node, float(width))


def _fields(text: str) -> list[str]:
    try:
        return [field for _, field, _, _ in string.Formatter().parse(text) if field]
    except ValueError:
        return [text]
