"""Jinja templates (chat templates of tokenizers, in JSON, GGUF and files of their own): do they escape?

A template is parsed by Jinja and never rendered. Jinja is imported when a text has its delimiters.
"""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError

_MOST_BLOCKS = 40_000


def check(context: ScanContext, text: str, *, declared: bool = False) -> None:
    """Check one text; a text without delimiters is no template.

    In a text that Jinja refuses, the blocks that are expressions by themselves are checked. If it is ``declared`` as a
    template, the refusal is a gap as well.

    Raises:
        LimitError: it is larger than we follow.
    """
    if "{{" not in text and "{%" not in text:
        return
    context.budget.template()
    if text.count("{%") + text.count("{{") > _MOST_BLOCKS:
        raise LimitError(f"a template of more than {_MOST_BLOCKS} blocks")
    try:
        _check_trees(context, text, declared=declared)
    except RecursionError:
        raise LimitError("a template nested deeper than we follow") from None


def _check_trees(context: ScanContext, text: str, *, declared: bool) -> None:
    from buildkit.scan.formats.templates import flow, parser, sinks, values

    environment = parser.make_environment()
    steps = values.Steps()
    template = parser.parse_template(environment, text)
    if template is None and declared:
        context.gap("a template that Jinja cannot parse")
    trees = [template] if template else parser.parse_blocks(environment, text)
    found = sinks.Sinks(context, text)
    for tree in trees:
        flow.check_template(environment, tree, found, steps)
