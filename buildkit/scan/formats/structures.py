"""Values that JSON, YAML and TOML hold: every object and text in them is checked for what a loader would act on."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.scan.context import ScanContext
from buildkit.scan.formats import configs, jinja, keras, namedcode
from buildkit.scan.formats.cursor import quote
from buildkit.scan.pickle.nested import SERIALIZED, scan_serialized, scan_text


class StructureObject(dict[str, object]):
    """An object that keeps the values that a later equal key shadowed."""

    shadowed: tuple[tuple[str, object], ...] = ()


def make_object(pairs: list[tuple[str, object]]) -> StructureObject:
    """Return an object of all pairs; equal keys are kept as shadowed."""
    result = StructureObject(pairs)
    if len(result) < len(pairs):
        last = {key: place for place, (key, _) in enumerate(pairs)}
        result.shadowed = tuple(pair for place, pair in enumerate(pairs) if last[pair[0]] != place)
    return result


def check(context: ScanContext, value: object, *, shared: bool = False) -> None:
    """Check every object and text; ``shared`` values may occur several times and are checked once.

    Raises:
        LimitError: a template is larger than we follow.
    """
    templates, pickles, before = set[str](), set[str](), len(context.findings)
    calls: dict[str, None] = {}
    for node in walk(value, shared=shared):
        if isinstance(node, dict):
            for view in views(node):
                keras.check_object(context, view)
                configs.check_object(context, view)
                namedcode.check_object(context, view)
                pickles.update(one for one in [view.get(SERIALIZED)] if isinstance(one, str))
            templates.update(configs.find_templates(node))
        elif isinstance(node, str):
            check_text(context, node, declared=node in templates, serialized=node in pickles)
            if namedcode.is_call(node):
                calls[node] = None
    found = [finding.what for finding in context.findings[before:]]  # by the keys that they stand under
    namedcode.find_calls(context, [call for call in calls if not any(quote(call) in what for what in found)])


def check_text(context: ScanContext, text: str, *, declared: bool = False, serialized: bool = False) -> None:
    """Check a text as a template, perhaps ``declared`` as one, and for a pickle, perhaps ``serialized`` as one."""
    jinja.check(context, text, declared=declared)
    if serialized:
        scan_serialized(context, text)
    else:
        scan_text(context, text)


def views(node: dict[str, object]) -> Iterator[dict[str, object]]:
    """Yield the object as parsers see it that take the last of equal keys, and the first; then with others of them."""
    yield node
    shadowed = getattr(node, "shadowed", ())
    if shadowed:
        yield {**node, **dict(reversed(shadowed))}
    for key, value in shadowed[:100]:
        yield {**node, key: value}


def walk(value: object, *, shared: bool = False) -> Iterator[object]:
    """Yield a value and all in it; an object before what it holds."""
    todo, seen = [value], set[int]()
    while todo:
        node = todo.pop()
        if shared and isinstance(node, dict | list):
            if id(node) in seen:
                continue
            seen.add(id(node))
        yield node
        if isinstance(node, dict):
            todo.extend(node.values())
            todo.extend(hidden for _, hidden in getattr(node, "shadowed", ()))
        elif isinstance(node, list):
            todo.extend(node)
