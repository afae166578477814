"""Follow a template's statements: what they assign, print and load, and how often loops turn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jinja2 import Environment, nodes

from buildkit.scan.formats.templates.contextnames import find_context_names
from buildkit.scan.formats.templates.environs import Environs
from buildkit.scan.formats.templates.expressions import Expressions
from buildkit.scan.formats.templates.rules import BURDEN, REACH
from buildkit.scan.formats.templates.sinks import Sinks
from buildkit.scan.formats.templates.values import MADE, NOTHING, Possible, Steps, elements, length_of, union

_ROUNDS = 5  # after so many, further constants are no longer followed
_EMPTY = Possible(("",))


def check_template(environment: Environment, template: nodes.Template, sinks: Sinks, steps: Steps) -> None:
    """Follow a template until nothing changes, then report to the sinks what reaches them.

    Raises:
        LimitError: it takes too many steps.
    """
    for node in template.find_all(nodes.Getattr):
        sinks.attribute(node)
    _Flow(Expressions(environment, Environs(), steps), template).run(sinks)


class _Flow:
    """The statements of one template."""

    def __init__(self, expressions: Expressions, template: nodes.Template) -> None:
        self._value = expressions.value
        self._expressions = expressions
        self._environs = expressions.environs
        self._template = template
        self._turns = 1
        expressions.environs.outer = find_context_names(template)
        for macro in template.find_all(nodes.Macro):
            expressions.macros.setdefault(macro.name, []).append(macro)

    def run(self, sinks: Sinks) -> None:
        """Evaluate until nothing changes, and once more for the sinks."""
        environs, rounds = self._environs, 0
        environs.changed = True
        while environs.changed:
            environs.changed = False
            self._print(self._template.body)
            rounds += 1
            environs.widening = rounds >= _ROUNDS
        self._expressions.sinks = sinks
        self._print(self._template.body)

    def _print(self, body: Sequence[nodes.Node]) -> Possible:
        """Return the text that statements print."""
        printed = (self._statement(node) for node in body)
        return self._expressions.join([text for text in printed if text != _EMPTY])

    def _statement(self, node: nodes.Node) -> Possible:
        match node:
            case nodes.Output():
                return self._expressions.join([self._value(part) for part in node.nodes])
            case nodes.If():
                return self._branches(node)
            case nodes.For():
                return self._loop(node)
            case nodes.Assign():
                self._check_growth(node)
                self._assign(node.target, self._value(node.node))
            case nodes.AssignBlock():
                self._assign(node.target, self._block(node.body, node.filter))
            case nodes.FilterBlock():
                return self._block(node.body, node.filter)
            case nodes.Macro() | nodes.CallBlock():
                return self._macro(node)
            case nodes.Extends() | nodes.Include() | nodes.Import() | nodes.FromImport():
                self._value(node.template)
                if sinks := self._expressions.sinks:
                    sinks.report(node, REACH, "loads another template")
            case _:
                return self._other(node)
        return _EMPTY

    def _other(self, node: nodes.Node) -> Possible:
        """Follow a statement with a body, or an expression."""
        if isinstance(node, nodes.With):
            for target, value in zip(node.targets, node.values, strict=True):
                self._assign(target, self._value(value))
        elif isinstance(node, nodes.Expr):
            return self._value(node)
        elif not hasattr(node, "body"):
            for child in node.iter_child_nodes():
                self._other(child)
            return _EMPTY
        printed = self._print(getattr(node, "body", ()))
        if isinstance(node, nodes.Block):
            self._environs.note(self._environs.outputs, node.name, printed)
        return printed

    def _branches(self, node: nodes.If) -> Possible:
        self._value(node.test)
        others = [self._branches(other) for other in node.elif_]
        return union(self._print(node.body), *others, self._print(node.else_))

    def _loop(self, node: nodes.For) -> Possible:
        values = self._value(node.iter)
        sized = [item for item in values.known if isinstance(item, str | list | tuple | dict | range)]
        count = max(map(length_of, sized), default=1)
        before = self._turns
        self._turns = min(before * max(count, 1), 10**15)
        if sinks := self._expressions.sinks:
            sinks.turns(node, self._turns)
        self._assign(node.target, union(elements(values), self._environs.added))
        if node.test:
            self._value(node.test)
        printed = self._print(node.body)
        self._turns = before
        repeated = _EMPTY if printed == _EMPTY else union(printed, MADE)
        return union(repeated, self._print(node.else_))

    def _block(self, body: Sequence[nodes.Node], applied: nodes.Filter | None) -> Possible:
        printed = self._print(body)
        if applied is None:
            return printed
        outer, self._expressions.block = self._expressions.block, printed
        result = self._value(applied)
        self._expressions.block = outer
        return result

    def _macro(self, node: nodes.Macro | nodes.CallBlock) -> Possible:
        """Note what a macro, or the body of a call, prints."""
        variables = self._environs.variables
        defaults = [NOTHING] * (len(node.args) - len(node.defaults)) + [self._value(one) for one in node.defaults]
        for parameter, default in zip(node.args, defaults, strict=True):
            self._environs.note(variables, parameter.name, default)
            if isinstance(node, nodes.CallBlock):
                self._environs.note(variables, parameter.name, variables.get("caller()", NOTHING))
        printed = self._print(node.body)
        if isinstance(node, nodes.Macro):
            self._environs.note(self._environs.outputs, node.name, printed)
            return _EMPTY
        self._environs.note(self._environs.outputs, "caller", printed)
        return self._value(node.call)

    def _assign(self, target: nodes.Node, value: Possible) -> None:
        if isinstance(target, nodes.Name):
            self._environs.note(self._environs.variables, target.name, value)
        elif isinstance(target, nodes.NSRef):
            self._environs.note(self._environs.attributes, target.attr, value)
        elif isinstance(target, nodes.Tuple | nodes.List):
            for inner in target.items:
                self._assign(inner, elements(value))

    def _check_growth(self, node: nodes.Assign) -> None:
        """Report a variable in a loop that is set to itself several times: it doubles with every turn."""
        sinks = self._expressions.sinks
        if sinks and isinstance(node.target, nodes.Name | nodes.NSRef):
            own = sum(_is_same(node.target, operand) for operand in _operands(node.node))
            if own > 1:
                sinks.report(node, BURDEN, "doubles a text")


def _operands(node: nodes.Node) -> Iterable[nodes.Node]:
    if isinstance(node, nodes.Concat):
        for part in node.nodes:
            yield from _operands(part)
    elif isinstance(node, nodes.Add):
        yield from _operands(node.left)
        yield from _operands(node.right)
    else:
        yield node


def _is_same(target: nodes.Name | nodes.NSRef, node: nodes.Node) -> bool:
    if isinstance(target, nodes.Name):
        return isinstance(node, nodes.Name) and node.name == target.name
    return (
        isinstance(node, nodes.Getattr) and node.attr == target.attr and getattr(node.node, "name", "") == target.name
    )
