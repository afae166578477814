"""The bridge for a Containerfile that cannot be taken apart yet: it stays as it is, as the root. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from buildkit.adopt.draft import ImageDraft, Leftover
from buildkit.adopt.render import inline_table, quote
from buildkit.adopt.sources import ImageSource
from buildkit.declare.instructions import ParsedContainerfile

_STEP = "[[run]] step"  # what a step may do, a RUN of the root does as well
_UNKNOWN = "VALUE"


def offer_bridge(
    file: ParsedContainerfile, source: ImageSource, image: ImageDraft, left: Iterable[Leftover]
) -> Iterator[Leftover]:
    """Yield what to write in place of the root, if something is left of the file that would become steps."""
    if not any(one.file == file.path and _STEP in one.advice for one in left):
        return
    advice = [
        f"let stages/{image.base}/stage.toml be nothing but",
        *(f"  {line}".rstrip() for line in _render_root(file, source)),
        "and remove from the file what stages do: packages of Python, and COPY of code, which makes the root anew;",
        "say in [tool.buildkit] which `python`, `glibc` and `interpreter` its image has (docs/stages.md)",
    ]
    if image.builder_apt or image.compilers:
        advice[-1] += ";\nremove [apt] from stages/builder/stage.toml: this root brings its packages"
    text = "or keep it as the root, until it is taken apart"
    yield Leftover(file=file.path, line=0, text=text, advice="\n".join(advice))


def format_bridge(file: ParsedContainerfile, source: ImageSource) -> str:
    """Return what a person can write if no root for the file was found, and so nothing was written."""
    lines = "\n".join(f"  {line}".rstrip() for line in _render_root(file, source))
    return f"or keep it as the root: write stages/base/stage.toml so, and stages on it (docs/adopt.md)\n{lines}"


def _render_root(file: ParsedContainerfile, source: ImageSource) -> Iterator[str]:
    yield f"summary = {quote(f'the root: {file.path}')}"
    yield ""
    yield "[root]"
    yield f"containerfile = {quote(file.path)}"
    if source.context != ".":
        yield f"context = {quote(source.context)}"
    if source.target:
        yield f"target = {quote(source.target)}"
    if arguments := _find_arguments(file, source):
        yield f"args = {inline_table(arguments)}"
    yield "network = true"


def _find_arguments(file: ParsedContainerfile, source: ImageSource) -> dict[str, str]:
    """Return the values that the file does not say itself: given ones, and those that nobody has given."""
    inside = (i.value for stage in file.stages for i in stage.instructions if i.name == "ARG")
    declared = {name for name, _ in file.arguments} | {value.partition("=")[0] for value in inside}
    given = {name: value for name, value in source.arguments.items() if name in declared}
    return dict.fromkeys((name for name, default in file.arguments if not default), _UNKNOWN) | given
