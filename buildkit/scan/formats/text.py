"""Text, UTF-8 or UTF-16 with a mark, and everything in it that a reader of text files would act on."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import graphops, graphtext, jinja, jsontext, markup, scripts, tomltext, yamltext
from buildkit.scan.formats.cursor import MalformedContentError, quote
from buildkit.scan.source import ScanSource

ESCAPES = Rule(
    id="terminal-escape",
    title="Text with terminal escape sequences",
    severity=Severity.LOW,
    why="On a terminal, the text can hide lines, move the cursor, or set the title and the clipboard.",
    advice="Open the file in an editor that shows control characters.",
)
_BLOCK = 2**20
_OVERLAP = 4096
_TEMPLATE = 16 * 2**20
_STRANGE = 20  # one of so many characters may be of another encoding: a Latin-1 name does not make it binary
_WRONG = re.compile(r"[\0-\x06\x08\x0e-\x1a\x1c-\x1f\x7f]")
_ESCAPE = re.compile(r"\x1b(?:\][^\x07\x1b]{0,200}|\[[0-9;?]{0,20}[A-Za-ln-z]|[Pc_^])")  # colours (…m) are harmless
_POINTER = re.compile(r"version https://git-lfs\.github\.com/spec/v1\r?\noid sha256:([0-9a-f]{64})\r?\nsize (\d{1,19})")
_OP = re.compile(r"""^\s*op\s*:\s*["'](\w{1,80})["']""", re.MULTILINE)
_ENCODINGS = ((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def _encoding(head: bytes) -> str:
    return next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")


def recognise(head: bytes, source: ScanSource) -> bool:
    """Recognise text: the beginning decodes, with few errors, and has no control characters."""
    if not head:
        return False
    text = codecs.getincrementaldecoder(_encoding(head))(errors="replace").decode(head, final=source.size <= len(head))
    return not _WRONG.search(text) and text.count("\ufffd") <= len(text) // _STRANGE


def _blocks(source: ScanSource) -> Iterator[tuple[int, str]]:
    decoder = codecs.getincrementaldecoder(_encoding(source.read(0, 2)))(errors="replace")
    for at in range(0, source.size, _BLOCK):
        text = decoder.decode(source.read(at, _BLOCK), final=at + _BLOCK >= source.size)
        if text.count("\ufffd") > len(text) // _STRANGE:
            raise MalformedContentError("it begins as text, but does not continue as text", at)
        if wrong := _WRONG.search(text):
            raise MalformedContentError("it begins as text, but has control characters later", at + wrong.start())
        yield at, text


def scan(context: ScanContext, source: ScanSource) -> None:
    """Read all of it, one megabyte at a time; matches across blocks are found in their overlap.

    Raises:
        MalformedContentError: later bytes are not text.
    """
    before = ""
    template = not jsontext.recognise(source.read(0, 4096), source)  # in JSON, templates are checked as strings
    for at, block in _blocks(source):
        text = before + (block if at else block.removeprefix("\ufeff"))
        if at == 0:
            _check_beginning(context, text, source)
        _check_block(context, text)
        if template and source.size > _TEMPLATE:
            jinja.check(context, text)
            if graphtext.is_graph(text):
                context.gap(f"a graph as text of more than {_TEMPLATE} bytes")
        before = text[-_OVERLAP:]
    if template:
        _check_whole(context, source)


def _check_whole(context: ScanContext, source: ScanSource) -> None:
    """Check what only the whole text shows: templates, YAML, TOML."""
    blocks = (block if at else block.removeprefix("\ufeff") for at, block in _blocks(source))
    if source.size > _TEMPLATE:
        yamltext.check(context, blocks)
        return
    text = "".join(blocks)
    jinja.check(context, text)
    yamltext.check(context, [text])
    tomltext.check(context, text)
    if graphtext.is_graph(text):
        graphtext.check(context, text)


def _check_beginning(context: ScanContext, text: str, source: ScanSource) -> None:
    if pointer := _POINTER.match(text):
        context.gap(f"only a Git LFS pointer to {pointer[2]} bytes; fetch the content (`git lfs pull`) and scan it")
    content = source.read(0, _BLOCK + 1)
    if content.startswith(tuple(mark for mark, _ in _ENCODINGS)):
        content = text.encode(errors="replace")
    scripts.check(context, text, content)
    markup.check(context, text, content)


def _check_block(context: ScanContext, text: str) -> None:
    if escape := _ESCAPE.search(text):
        context.find(ESCAPES, f"it has the control sequence {quote(escape.group())}")
    if "op" in text:
        for name in dict.fromkeys(_OP.findall(text)):
            graphops.check_op(context, name)
