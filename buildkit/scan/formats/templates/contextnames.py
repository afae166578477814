"""Find the variables that a template looks up in its context, by the scopes that Jinja's compiler computes.

Nothing is compiled to Python: the generated source is dropped, and no constant is evaluated.
"""

from __future__ import annotations

from jinja2 import Environment, TemplateError, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.idtracking import VAR_LOAD_RESOLVE
from jinja2.runtime import Context


class NameCollector(CodeGenerator):
    """Collect ``names`` instead of source."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment, "template", "template", optimized=False)
        self.names: set[str] = set()

    def write(self, x: str) -> None:
        """Drop a piece of source."""

    def enter_frame(self, frame: Frame) -> None:
        """Note what a scope loads from the context."""
        super().enter_frame(frame)
        self.names.update(str(name) for action, name in frame.symbols.loads.values() if action == VAR_LOAD_RESOLVE)


@pass_context
def _as_it_is(context: Context, value: object) -> object:
    """Return the value; a ``finalize`` that takes the context keeps the compiler from evaluating constants."""
    del context
    return value


def find_context_names(template: nodes.Template) -> frozenset[str]:
    """Return the names of variables that may come from the caller of a template."""
    environment = Environment(finalize=_as_it_is)  # noqa: S701 - nothing is rendered
    for found in template.find_all((nodes.Filter, nodes.Test)):
        table = environment.filters if isinstance(found, nodes.Filter) else environment.tests
        table.setdefault(found.name, _as_it_is)
    collector = NameCollector(environment)
    try:
        collector.visit(template)
    except TemplateError:
        return frozenset(name.name for name in template.find_all(nodes.Name))
    return frozenset(collector.names)
