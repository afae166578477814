"""Scripts in text, recognised by their beginning, and Python source of other versions, by its lines."""

from __future__ import annotations

import re

from buildkit.findings import Rule, Severity
from buildkit.scan.context import ScanContext
from buildkit.scan.formats import pythonsource
from buildkit.scan.formats.cursor import quote

SCRIPT = Rule(
    id="script",
    title="A script, not a model",
    severity=Severity.HIGH,
    why="A file that begins like a script is run by a click or by its name; among weights it is disguised.",
    advice="Remove the file from the model; code belongs with the application.",
)
_BEGIN = re.compile(
    r"<\?php|@echo off\b|%!PS-Adobe|(?:powershell|cmd)(?:\.exe)?\s+[-/]"
    r"|\[InternetShortcut\]|Set-StrictMode\b|\$ErrorActionPreference\b|(?:Option Explicit|WScript\.)",
    re.IGNORECASE,
)
_AS = r"(?:[ \t]+as[ \t]+\w+)?"
_IMPORT = re.compile(
    rf"^[ \t]*(?:import[ \t]+[A-Za-z_][\w.]*{_AS}(?:[ \t]*,[ \t]*[A-Za-z_][\w.]*{_AS})*"
    rf"|from[ \t]+\.*[\w.]*[ \t]+import[ \t]+(?:\(|\*|\w+{_AS}(?:[ \t]*,[ \t]*\w+{_AS})*,?))"
    r"[ \t]*(?:[;#\\].*)?\r?$",
    re.MULTILINE,
)
_CALL = re.compile(r"(?<![\w.`])(?:exec|eval|compile|__import__|open|getattr|globals|os\.\w+|subprocess\.\w+)\(")
_STATEMENT = re.compile(
    r"""(?:[A-Za-z_][\w.]*[ \t]*(?:\(|\[|=|:|[-+*/|&%@^]?=|,)|@\w|\#|["'rRbBfFuU]{0,3}["']|[\])}(]|\.\.\."""
    r"""|(?:import|from|def|class|if|elif|else|for|while|with|try|except|finally|return|raise|del|pass|assert|async|await|"""
    r"""global|nonlocal|lambda|yield|not|print|break|continue|match|case|type)\b)"""
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)", re.MULTILINE)
_QUOTED = re.compile(r'"""(?:[^\\]|\\.)*?(?:"""|\\?\Z)|' + r"'''(?:[^\\]|\\.)*?(?:'''|\\?\Z)", re.DOTALL)
_LINES = 400


def check(context: ScanContext, text: str, content: bytes) -> None:
    """Check the beginning of a text, and the whole ``content`` that it is decoded from, or as much as there is."""
    if begin := _BEGIN.match(text):
        context.find(SCRIPT, f"it begins with {quote(begin.group(), 40)}", offset=0)
    elif not pythonsource.check(context, content) and (found := find_python(text)):
        context.find(pythonsource.PYTHON, f"it is Python source that has {quote(found, 60)}")


def find_python(text: str) -> str | None:
    """Return a telltale statement of Python source that our Python cannot parse; prose around blocks of code is not.

    It may be of a newer or older version.
    """
    telling = _IMPORT.search(text) or _CALL.search(text)
    text = _QUOTED.sub('""', text)
    if telling is None or _FENCE.search(text):
        return None
    lines = [line for line in text.splitlines()[:_LINES] if line.strip() and line[:1] not in " \t#"]
    good = sum(1 for line in lines if _STATEMENT.match(line))
    return telling.group().strip() if good and good >= 0.95 * len(lines) else None
