"""Parse templates with Jinja's own lexer and parser, with the tags of transformers and other extensions."""

from __future__ import annotations

import re
from functools import cache

from jinja2 import Environment, TemplateError, TemplateSyntaxError, nodes
from jinja2.parser import Parser
from jinja2.sandbox import SandboxedEnvironment

from buildkit.scan.limits import LimitError

_EXTENSIONS = ("jinja2.ext.loopcontrols", "jinja2.ext.do", "jinja2.ext.i18n", "jinja2.ext.debug")
_START = re.compile(r"\{[{%]")
_ENDS = ("variable_end", "block_end")
_BLOCK_TOKENS = 400_000
_START_TOKENS = 100  # what a delimiter without a block counts as


class LenientParser(Parser):
    """Take an unknown tag for one of an extension: its arguments are expressions, its body follows."""

    def parse_statement(self) -> nodes.Node | list[nodes.Node]:
        """Parse a statement, or the expressions of an unknown tag."""
        name = self.stream.current
        known = name.value in _KNOWN_TAGS or name.value in self.extensions
        if name.type != "name" or known or any(name.test_any(*ends) for ends in self._end_token_stack):
            return super().parse_statement()
        next(self.stream)
        found: list[nodes.Expr] = []
        while self.stream.current.type != "block_end":
            if self.stream.current.type in ("comma", "colon", "assign"):
                next(self.stream)
            else:
                found.append(self.parse_expression())
        return nodes.Output(found, lineno=name.lineno)


_KNOWN_TAGS = frozenset(
    "for if block extends print macro include from import set with autoescape call filter".split()  # noqa: SIM905
)


class ParsingEnvironment(SandboxedEnvironment):
    """The environment of chat templates; it also evaluates filters of constants."""

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        return LenientParser(self, source, name, filename).parse()


@cache
def make_environment() -> ParsingEnvironment:
    """Return an environment as transformers makes it."""
    return ParsingEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=_EXTENSIONS)


def parse_template(environment: Environment, text: str) -> nodes.Template | None:
    """Return the syntax tree; None if Jinja refuses the text."""
    try:
        return environment.parse(text)
    except TemplateError:
        return None


def parse_blocks(environment: Environment, text: str) -> list[nodes.Template]:
    """Return the syntax trees of the blocks that are expressions by themselves, in a text that is no template.

    Raises:
        LimitError: there are more tokens than are read.
    """
    found, at, tokens = [], 0, 0
    while match := _START.search(text, at):
        at = match.start()
        end, count = _find_end(environment, text, at, _BLOCK_TOKENS - tokens)
        tokens += count
        if tokens >= _BLOCK_TOKENS:
            raise LimitError(f"more than {_BLOCK_TOKENS} tokens between template delimiters")
        block = text[at:end]
        if end and (tree := _parse_block(environment, block)):
            found.append(tree)
        at = max(end, at + 2)
    return found


def _find_end(environment: Environment, text: str, at: int, most: int) -> tuple[int, int]:
    """Return where the block at ``at`` ends by Jinja's lexer, 0 if nowhere, and how many tokens were read."""
    count = 0
    for window in (2**11, 2**16):
        length = 0
        try:
            for _, kind, value in environment.lexer.tokeniter(text[at : at + window], None):
                length, count = length + len(value), count + 1
                if kind in _ENDS:
                    return at + length, count
                if count >= most:
                    break
        except TemplateSyntaxError:
            if at + window >= len(text) or length < window // 2:
                break
    return 0, count + _START_TOKENS


def _parse_block(environment: Environment, block: str) -> nodes.Template | None:
    word = block[2:].lstrip("-+ \t\r\n").split(None, 1)[0] if block.startswith("{%") else ""
    closed = {"set": "", "if": "{% endif %}", "for": "{% endfor %}", "macro": "{% endmacro %}", "elif": ""}
    if word == "elif":
        block = block.replace("elif", "if", 1) + "{% endif %}"
    return parse_template(environment, block + closed.get(word, ""))
