"""Evaluate the expressions of a template to what they may be, and show the sinks what reaches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from jinja2 import Environment, nodes

from buildkit.scan.formats.danger import word_set
from buildkit.scan.formats.templates.constants import make_constants, size_of
from buildkit.scan.formats.templates.environs import Environs
from buildkit.scan.formats.templates.sinks import Sinks
from buildkit.scan.formats.templates.values import (
    MADE,
    NAMESPACE,
    NOTHING,
    NUMBER,
    OUTSIDE,
    TOKENS,
    Origin,
    Possible,
    Steps,
    add_texts,
    combine,
    derived,
    elements,
    has_text,
    length_of,
    make_dict,
    merged,
    split,
    union,
)

_NUMBERS = frozenset({"length", "count", "int", "float", "wordcount", "abs", "round"})
_PARTS = frozenset({"first", "last", "list", "sort", "unique", "reverse", "select", "reject", "min", "max", "batch",
                    "slice", "selectattr", "rejectattr", "items", "dictsort", "groupby"})  # fmt: skip
_ADDS = frozenset({"append", "extend", "insert", "update", "setdefault", "add"})
_LOOKS = frozenset({"items", "keys", "values", "get", "copy", "pop"})
_LOOP = frozenset({"index", "index0", "revindex", "revindex0", "first", "last", "length", "depth", "depth0"})
_NEIGHBOURS = frozenset({"previtem", "nextitem"})
_MOST_ARGUMENTS = 20
_SIZED = frozenset({"center", "ljust", "rjust", "zfill", "indent", "expandtabs"})
_DATA = word_set(
    "messages tools documents functions conversation conversations available_tools custom_tools user_tools loop "
    "builtin_tools xml_tools python_tools tool_choice controls add_generation_prompt enable_thinking thinking"
)


class Expressions:
    """Evaluate within ``steps``; ``sinks`` are set when the environs no longer change."""

    def __init__(self, environment: Environment, environs: Environs, steps: Steps) -> None:
        self.environs = environs
        self.sinks: Sinks | None = None
        self.macros: dict[str, list[nodes.Macro]] = {}
        self.block = NOTHING  # the text that a filter block applies to
        self._constants = make_constants(environment)
        self._steps = steps
        self._kinds: Mapping[type[nodes.Node], Callable[..., Possible]] = {
            nodes.Const: lambda node: Possible((node.value,)),
            nodes.TemplateData: lambda node: Possible((node.data,)),
            nodes.Name: self._name,
            nodes.List: self._list,
            nodes.Tuple: self._list,
            nodes.Dict: self._dict,
            nodes.CondExpr: self._condition,
            nodes.Getattr: self._attribute,
            nodes.Getitem: self._item,
            nodes.Filter: self._filter,
            nodes.Call: self._call,
            nodes.Concat: self._concat,
            nodes.And: self._either,
            nodes.Or: self._either,
        }

    def value(self, node: nodes.Node) -> Possible:
        """Return what an expression may be.

        Raises:
            LimitError: it takes too many steps.
        """
        self._steps.take()
        if isinstance(node, nodes.BinExpr) and not isinstance(node, nodes.And | nodes.Or):
            result = self._operation(node)
        else:
            result = self._kinds.get(type(node), self._other)(node)
        if self.sinks and not isinstance(node, nodes.TemplateData):
            self._steps.take(sum(map(len, result.texts)) // 64)
            self.sinks.texts(node, result)
        return result

    def _values(self, children: Sequence[nodes.Node]) -> list[Possible]:
        return [self.value(child) for child in children]

    def text_of(self, value: Possible) -> Possible:
        """Return a value as it is printed."""
        otherwise = MADE if Origin.NAMESPACE in value.origin else value.widen()
        return combine(self._steps, [value], str, otherwise)

    def join(self, parts: Sequence[Possible]) -> Possible:
        """Return texts that follow each other."""
        whole = Possible(("",))
        for part in parts:
            if whole == MADE:
                break
            text = self.text_of(part)
            otherwise = text.widen() if whole == Possible(("",)) else MADE
            whole = combine(self._steps, [whole, text], add_texts, otherwise)
        return whole

    # -- values by themselves

    def _name(self, node: nodes.Name) -> Possible:
        assigned = self.environs.variables.get(node.name)
        if self.sinks:
            self.sinks.name(node, owner=False, assigned=assigned is not None)
        if node.name in ("self", "super") or node.name in self.macros:
            return MADE  # they have names that the template chooses
        if node.name in _DATA:
            return union(OUTSIDE, assigned or NOTHING)
        token = TOKENS if node.name in self.environs.outer else NOTHING
        return union(assigned or NOTHING, Possible(("",)), token)

    def _owner(self, node: nodes.Node) -> Possible:
        """Return the value that something is taken from."""
        if self.sinks and isinstance(node, nodes.Name):
            self.sinks.name(node, owner=True, assigned=node.name in self.environs.variables)
        return self.value(node)

    def _list(self, node: nodes.List | nodes.Tuple) -> Possible:
        kind = tuple if isinstance(node, nodes.Tuple) else list
        values = self._values(node.items)
        return combine(self._steps, values, lambda *items: kind(items), merged(values))

    def _dict(self, node: nodes.Dict) -> Possible:
        values = self._values([part for pair in node.items for part in (pair.key, pair.value)])
        return combine(self._steps, values, lambda *flat: dict(zip(flat[::2], flat[1::2], strict=True)), merged(values))

    def _condition(self, node: nodes.CondExpr) -> Possible:
        self.value(node.test)
        return union(self.value(node.expr1), self.value(node.expr2) if node.expr2 else NOTHING)

    def _either(self, node: nodes.BinExpr) -> Possible:
        return union(self.value(node.left), self.value(node.right))

    def _other(self, node: nodes.Node) -> Possible:
        """Return a truth value or a number for tests and comparisons, and anything for what we do not know."""
        values = self._values(list(node.iter_child_nodes()))
        if isinstance(node, nodes.Test | nodes.Compare | nodes.UnaryExpr | nodes.Operand):
            known = isinstance(node, nodes.Neg) and all(value.is_number for value in values)
            return combine(self._steps, values, lambda number: -number, NUMBER) if known else NUMBER
        return MADE if values else OUTSIDE

    # -- what is taken from values

    def _attribute(self, node: nodes.Getattr) -> Possible:
        owner = self._owner(node.node)
        if isinstance(node.node, nodes.Name) and node.node.name == "loop" and node.attr in _LOOP:
            return NUMBER
        if node.attr in _NEIGHBOURS:
            return MADE
        if self.sinks and node.attr in ("format", "format_map"):
            self.sinks.formats(node, owner)
            self.sinks.widths(node, owner)
        inner = combine(self._steps, [owner], lambda value: self._constants.item(value, node.attr), derived(owner))
        return union(inner, self._of_namespace(node.attr), self._added(owner))

    def _of_namespace(self, name: str) -> Possible:
        return union(*(self.environs.attributes.get(key, NOTHING) for key in (name, "")))

    def _added(self, owner: Possible) -> Possible:
        return self.environs.added if any(isinstance(value, list | dict) for value in owner.known) else NOTHING

    def _item(self, node: nodes.Getitem) -> Possible:
        owner = self._owner(node.node)
        if isinstance(node.arg, nodes.Slice):
            bounds = self._values([part for part in (node.arg.start, node.arg.stop, node.arg.step) if part])
            return self._slice(node.arg, owner, bounds)
        key = self.value(node.arg)
        if self.sinks:
            self.sinks.key(node, key)
        inner = combine(self._steps, [owner, key], self._constants.item, derived(owner))
        if key.origin:
            inner = union(inner, elements(owner))
        named = [*map(self._of_namespace, key.texts), NOTHING if _NEIGHBOURS.isdisjoint(key.texts) else MADE]
        if key.origin and not key.is_number:
            named += [Possible((), Origin.REACHED), *self.environs.attributes.values()]
        return union(inner, self._added(owner), *named)

    def _slice(self, node: nodes.Slice, owner: Possible, bounds: list[Possible]) -> Possible:
        present = [part is not None for part in (node.start, node.stop, node.step)]

        def cut(value: object, *given: object) -> object:
            rest = iter(given)
            return value[slice(*(next(rest) if there else None for there in present))]  # type: ignore[index]

        return combine(self._steps, [owner, *bounds], cut, union(owner.widen(), derived(owner)))

    # -- operators

    def _concat(self, node: nodes.Concat) -> Possible:
        return self.join(self._values(node.nodes))

    def _operation(self, node: nodes.BinExpr) -> Possible:
        left, right = self.value(node.left), self.value(node.right)
        kind = type(node).__name__
        if self.sinks:
            for first in left.known or ("x",):
                for second in right.known or ("x",):
                    self.sinks.size(node, size_of(kind, first, second))
            self.sinks.widths(node, left)
        if kind in ("Sub", "Div", "FloorDiv", "Pow") or (kind in ("Add", "Mul") and left.is_number and right.is_number):
            otherwise = NUMBER
        elif kind == "Add":
            otherwise = NUMBER if left.is_number or right.is_number else MADE
        else:  # a text is repeated, or formatted with numbers
            outside = [value for value in (left, right) if not value.is_number]
            otherwise = union(*outside).widen() if len(outside) < 2 else MADE
        return combine(self._steps, [left, right], lambda a, b: self._constants.binary(kind, a, b), otherwise)

    # -- filters and calls

    def _filter(self, node: nodes.Filter) -> Possible:
        value = self._owner(node.node) if node.node else self.block
        args, names = self._arguments(node)
        if self.sinks:
            self.sinks.filters(node, *split(args, names))
            self.sinks.widths(node, value)
            self._check_sizes(node, node.name, args)
        if node.name in ("default", "d"):
            return union(value, *args)
        if node.name == "random":
            return elements(value)

        def compute(owner: object, *given: object) -> object:
            return self._constants.filtered(node.name, owner, *split(given, names))

        return combine(self._steps, [value, *args], compute, self._filtered(node.name, value, args))

    def _filtered(self, name: str, value: Possible, args: Sequence[Possible]) -> Possible:
        """Return what a filter returns of values that are not known."""
        if name in _NUMBERS:
            return NUMBER
        if name in _PARTS or (name != "join" and not has_text(args) and Origin.NAMESPACE not in value.origin):
            return union(value.widen(), derived(value), self._added(value))
        return MADE

    def _arguments(self, node: nodes.Filter | nodes.Call) -> tuple[list[Possible], list[str]]:
        """Return the values of all arguments, and the names of those that have one, which come last."""
        args = self._values([*node.args, *(pair.value for pair in node.kwargs if isinstance(pair, nodes.Keyword))])
        unpacked = self._values([more for more in (node.dyn_args, node.dyn_kwargs) if more is not None])
        if unpacked:  # which of them an argument is, is not known
            return [union(MADE, *args, *unpacked)] * _MOST_ARGUMENTS, []
        return args, [str(pair.key) for pair in node.kwargs if isinstance(pair, nodes.Keyword)]

    def _check_sizes(self, node: nodes.Node, name: str, args: Sequence[Possible]) -> None:
        numbers = [item for arg in args for item in arg.known if isinstance(item, int | float)]
        if self.sinks and name in _SIZED and numbers:
            self.sinks.size(node, max(numbers))

    def _call(self, node: nodes.Call) -> Possible:
        args, names = self._arguments(node)
        callee = self.value(node.node)
        if self.sinks:
            own = set(self.environs.variables) - set(self.macros) - {"caller"}
            self.sinks.called(node, callee, own)
        if isinstance(node.node, nodes.Getattr):
            return self._call_method(node, node.node, args, names)
        if isinstance(node.node, nodes.Name):
            return self._call_name(node, node.node.name, args, names)
        return MADE

    def _call_method(self, node: nodes.Call, method: nodes.Getattr, args: list[Possible], names: list[str]) -> Possible:
        owner, name = self.value(method.node), method.attr
        if name in _ADDS:
            self.environs.add(union(*args))
        if self.sinks:
            self._check_sizes(node, name, args)

        def compute(value: object, *given: object) -> object:
            return self._constants.method(value, name, *split(given, names))

        if name in _LOOKS:
            otherwise = union(derived(owner), elements(owner), *args, self._added(owner))
        elif has_text([owner, *args]) or getattr(method.node, "name", "") == "loop":
            otherwise = MADE
        else:
            otherwise = owner.widen()
        return combine(self._steps, [owner, *args], compute, otherwise)

    def _call_name(self, node: nodes.Call, name: str, args: list[Possible], names: list[str]) -> Possible:
        if name in self.macros:
            return self._call_macro(name, args, names)
        if name == "caller":
            self.environs.note(self.environs.variables, "caller()", union(*args))
            return self.environs.outputs.get(name, NOTHING)
        if name in self.environs.variables:
            return MADE
        if name == "range":
            return self._range(node, args)
        if name == "namespace":
            return self._namespace(args, names)
        if name == "dict":
            return combine(self._steps, args, lambda *given: make_dict(*split(given, names)), MADE)
        return NOTHING if name == "raise_exception" else MADE

    def _range(self, node: nodes.Call, args: list[Possible]) -> Possible:
        made = combine(self._steps, args, range, NUMBER)
        if self.sinks:
            self.sinks.size(node, max((length_of(item) for item in made.known if isinstance(item, range)), default=0))
        return made

    def _namespace(self, args: list[Possible], names: list[str]) -> Possible:
        positional, named = split(args, names)
        for value in positional:
            for item in value.known:
                for key, inner in item.items() if isinstance(item, dict) else ():
                    self.environs.note(self.environs.attributes, str(key), Possible((inner,)))
            if value.origin:
                self.environs.note(self.environs.attributes, "", elements(value))
        for key, value in named.items():
            self.environs.note(self.environs.attributes, key, value)
        return NAMESPACE

    def _call_macro(self, name: str, args: list[Possible], names: list[str]) -> Possible:
        positional, named = split(args, names)
        for macro in self.macros[name]:
            parameters = [parameter.name for parameter in macro.args]
            for parameter, value in (*zip(parameters, positional, strict=False), *named.items()):
                self.environs.note(self.environs.variables, parameter, value)
            if len(positional) > len(parameters) or set(named) - set(parameters):
                self.environs.note(self.environs.variables, "varargs", MADE)
                self.environs.note(self.environs.variables, "kwargs", MADE)
        return self.environs.outputs.get(name, NOTHING)
