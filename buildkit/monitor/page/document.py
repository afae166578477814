"""The page as one document: styles, scripts and the charting library inlined, and the policy that allows them alone.

The policy (Content Security Policy, level 3) names each script and style by its hash, and asks for Trusted Types: the
browser itself refuses to take a text for HTML, whatever a container is called.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent / "assets"  # importlib.resources needs more than the stage `monitor` keeps of Python
_STYLES = ("uplot.css", "page.css")
_LIBRARY = "uplot.js"
_SCRIPTS = ("format.js", "past.js", "table.js", "chart.js", "stream.js", "page.js")  # share one scope of their own
_POLICY = (
    "default-src 'none'",
    "connect-src 'self'",
    "img-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PageDocument:
    """The document in UTF-8, and the value of its header ``Content-Security-Policy``."""

    html: bytes
    policy: str


@cache
def load_page() -> PageDocument:
    """Return the document, put together from the package's files."""
    own = "".join(map(_load, _SCRIPTS))
    parts = {
        "style": [_load(name) for name in _STYLES],
        "script": [_load(_LIBRARY), f'"use strict";\n(() => {{\n{own}}})();\n'],
    }
    html = _load("page.html")
    for tag, texts in parts.items():
        html = html.replace(f"<!-- {tag}s -->", "\n".join(f"<{tag}>{text}</{tag}>" for text in texts))
    hashes = (f"{tag}-src {' '.join(map(_hash, texts))}" for tag, texts in parts.items())
    return PageDocument(html=html.encode(), policy="; ".join((*_POLICY, *hashes)))


def _load(name: str) -> str:
    return _FOLDER.joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
