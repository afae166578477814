"""Jinja templates (chat templates of tokenizers, in JSON, GGUF and files of their own): do they escape?

Only the tokens between delimiters are checked; nothing is rendered or compiled, and Jinja is not needed.
"""

from __future__ import annotations

import re

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats.cursor import quote
from buildkit.scan.formats.danger import word_set
from buildkit.scan.limits import LimitError

ESCAPE = Rule(
    id="jinja-escape",
    title="A template that escapes its sandbox",
    severity=Severity.CRITICAL,
    why="If templates are rendered without a sandbox, names with underscores lead from any value to a shell.",
    advice="Do not use the template; take the one of the model's author.",
    references=("CVE-2024-34359", "CVE-2026-5760"),
)
REACH = Rule(
    id="jinja-reach",
    title="A template that uses more than its messages",
    severity=Severity.HIGH,
    why="The filter `attr`, Jinja's helpers and templates by name are ways out of a template; chats need none of them.",
    advice="Read the template; take the one of the model's author.",
    references=("CVE-2024-34359",),
)
BURDEN = Rule(
    id="jinja-burden",
    title="A template that takes excessive time or memory",
    severity=Severity.MEDIUM,
    why="Rendering it costs the server time or memory with every request.",
    advice="Read the template; take the one of the model's author.",
)
_CODE = re.compile(
    r"\{#.*?(?:#\}|\Z)"
    r"|\{%-?\+?\s*raw\s*-?%\}.*?(?:\{%-?\+?\s*endraw\s*-?\+?%\}|\Z)"
    r"|(?P<code>\{[{%])",
    re.DOTALL,
)
_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|'(?:[^'\\]|\\.)*+(?:'|\\?\Z))|(?P<name>[^\W\d]\w*)|(?P<number>\d[\d_.eE]*)"""
    r"""|(?P<end>[-+]?%\}|-?\}\})|(?P<sign>\*\*|[^\w\s])""",
    re.DOTALL,
)
_DUNDER = re.compile(
    r"__[A-Za-z]\w*__|__(?:class|mro|base|subclasses|globals|builtins|import|init|dict|getatt|reduce|code)"
)
_HELPERS = frozenset({"lipsum", "get_flashed_messages", "url_for"})
_MAKERS = frozenset({"cycler", "joiner", "namespace"})
_CALLS = word_set("eval exec popen system subprocess builtins importlib os open __import__ getattr setattr compile")
_STATEMENTS = frozenset({"import", "include", "extends", "from"})
_ASSEMBLERS = frozenset({"format", "reverse", "replace", "join", "format_map"})
_OPERANDS = frozenset({"name", "number", "string"})
_KEYWORDS = word_set(
    "and or not in is if else elif for set macro call block filter from import as with without context ignore missing "
    "include extends recursive do scoped required autoescape trans pluralize print continue break generation"
)
_TOKENS = 200_000
_LARGEST = 10_000_000
_MOST = 20  # findings in one text

Token = tuple[str, str]


def find_code(text: str) -> list[list[Token]]:
    """Return the tokens of each expression and statement; comments and raw blocks are skipped.

    Text that Jinja would refuse to compile is no template: a block without end, or consecutive words without operators,
    as in a vocabulary that has brackets among its words.

    Raises:
        LimitError: a block has more tokens than are read.
    """
    blocks: list[list[Token]] = []
    at = 0
    while match := _CODE.search(text, at):
        at = match.end()
        if match["code"]:
            block, at = _read_block(text, at, match["code"])
            if block is not None:
                blocks.append(block)
    return blocks


def _read_block(text: str, at: int, begin: str) -> tuple[list[Token] | None, int]:
    """Return one block's tokens and its end; as in Jinja, only its own mark outside brackets ends it."""
    block: list[Token] = [("begin", begin)]
    end = "}}" if begin == "{{" else "%}"
    depth = 0
    while token := _TOKEN.search(text, at):
        kind, value, at = str(token.lastgroup), token.group(), token.end()
        if kind == "end":
            if depth == 0 and value.endswith(end):
                return block, at
            kind, value, at = "sign", value[0], token.start() + 1
        if value in ("(", "[", "{"):
            depth += 1
        elif value in (")", "]", "}"):
            depth = max(depth - 1, 0)
        if _cannot_follow(block, kind, value):
            return None, at
        block.append((kind, value))
        if len(block) > _TOKENS:
            raise LimitError(f"an expression of more than {_TOKENS} tokens in a template")
    return None, len(text)


def _cannot_follow(block: list[Token], kind: str, value: str) -> bool:
    """Return whether a token cannot follow: two operands, except joined texts and the argument of a test."""
    before, last = block[-1]
    if before not in _OPERANDS or kind not in _OPERANDS or before == kind == "string":
        return False
    if last in _KEYWORDS or value in _KEYWORDS or len(block) <= 2:
        return False
    return all(word not in ("is", "not", ".") for _, word in block[-4:-1])


def check(context: ScanContext, text: str) -> None:
    """Check one text; a text without delimiters is no template.

    Raises:
        LimitError: a block has more tokens than are read.
    """
    if "{{" not in text and "{%" not in text:
        return
    most = len(context.findings) + _MOST
    for block in find_code(text):
        if len(context.findings) > most:
            return
        _check_names(context, block)
        _check_strings(context, block)
        _check_burden(context, block)


def _quote_around(block: list[Token], at: int) -> str:
    return quote("".join(value if kind != "name" else f" {value}" for kind, value in block[max(0, at - 6) : at + 7]))


def _check_names(context: ScanContext, block: list[Token]) -> None:
    if block[0][1] == "{%" and len(block) > 1:
        first = next((value for kind, value in block[1:] if kind == "name"), "")
        if first in _STATEMENTS:
            context.find(REACH, f"it loads another template: {_quote_around(block, 1)}")
    for at, (kind, value) in enumerate(block):
        if kind != "name":
            continue
        before, after = block[at - 1][1], block[at + 1][1] if at + 1 < len(block) else ""
        if value.startswith("__") or (value.startswith("_") and before == "."):
            severity = None if value.startswith("__") else Severity.HIGH
            context.find(ESCAPE, f"it uses {quote(value)}: {_quote_around(block, at)}", severity=severity)
        elif before == "|" and value in ("attr", "map") and (value == "attr" or _maps_attr(block, at)):
            context.find(REACH, f"it takes an attribute by name: {_quote_around(block, at)}")
        elif before not in (".", "|") and (value in _HELPERS or (value in _MAKERS and after in (".", "[", "|"))):
            context.find(REACH, f"it uses {quote(value)}: {_quote_around(block, at)}")
        elif value in _CALLS and (after == "(" or (before == "." and after == ".")):
            context.find(ESCAPE, f"it uses {quote(value)}: {_quote_around(block, at)}")


def _maps_attr(block: list[Token], at: int) -> bool:
    return any(kind == "string" and value[1:-1] == "attr" for kind, value in block[at + 1 : at + 4])


def _check_strings(context: ScanContext, block: list[Token]) -> None:
    joined = ""
    for at, (kind, value) in enumerate(block):
        if kind == "string":
            joined = joined[-200:] + _unescape(value[1:-1])
            if _DUNDER.search(joined):
                context.find(ESCAPE, f"it has the text {quote(joined)}: {_quote_around(block, at)}")
            elif "\\" in value and re.search(r"\\(?:x5f|u005f|137|N\{LOW LINE\})", value, re.IGNORECASE):
                context.find(ESCAPE, f"it hides an underscore: {_quote_around(block, at)}")
            elif _is_assembled(block, at):
                context.find(REACH, f"it assembles a name with underscores: {_quote_around(block, at)}")
        elif value not in ("~", "+", "(", ")"):
            joined = ""


def _is_assembled(block: list[Token], at: int) -> bool:
    text = block[at][1][1:-1]
    near = [value for _, value in block[max(0, at - 4) : at + 5]]
    if text == "_":
        empty = any(value in ("''", '""') for _, value in block[max(0, at - 40) : at])
        return "*" in near or ("replace" in near and block[at - 1][1] == ",") or ("join" in near and empty)
    if "__" in text:
        return "*" in near or (any(word in _ASSEMBLERS for word in near) and set(text) <= {"_"})
    if text.count("%c") > 1:
        return "format" in near or "%" in near
    return text[::-1].startswith("__") and "reverse" in near


def _unescape(text: str) -> str:
    def decode(match: re.Match[str]) -> str:
        digits = match[1] or match[2] or match[3]
        value = int(digits, 16)
        return chr(value) if value < 0x110000 else match[0]

    text = re.sub(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})", decode, text)
    return re.sub(r"\\([0-7]{1,3})", lambda match: chr(int(match[1], 8)), text)


def _check_burden(context: ScanContext, block: list[Token]) -> None:
    for at, (kind, value) in enumerate(block):
        if kind != "number" or len(value) < 5:
            continue
        near = [text for _, text in block[max(0, at - 6) : at + 2]]
        large = len(value) > 24 or float(re.sub(r"[^\d]", "", value) or "0") > _LARGEST
        if large and ("range" in near or "*" in near or "**" in near):
            context.find(BURDEN, f"it counts to {quote(value)}: {_quote_around(block, at)}")
