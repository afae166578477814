"""``.containerignore``: the files of a checkout that stay out of images.

The rules are those of ``.dockerignore`` (https://docs.docker.com/build/concepts/context/#dockerignore-files), as
podman and buildah read them, and not git's: a pattern is anchored at the folder of the file, ``*`` and ``?`` stop at
``/``, ``**`` does not, a folder that matches includes everything below it, and the last pattern that matches decides,
``!`` keeping a file that an earlier one left out.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable

from buildkit.declare.schema import format_value
from buildkit.errors import DefinitionError

_LONGEST = 4096  # PATH_MAX
_TOKENS = re.compile(r"(?:\*\*/)+(?:\*\*)?|\*{2,}|\*|\?|\[[^\]]*\]|\\.|.", re.DOTALL)


def parse_ignore_file(text: str, file: str) -> Callable[[str], bool]:
    """Return a function that decides whether a path (relative, POSIX) is left out. Raises DefinitionError."""
    rules: list[tuple[re.Pattern[str], bool]] = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), 1):
        pattern = line.strip()
        if line.startswith("#") or not pattern:
            continue
        keeps = pattern.startswith("!")
        clean = posixpath.normpath(pattern.lstrip("!").strip().lstrip("/") or ".")
        if clean == ".":
            continue
        try:
            if len(clean) > _LONGEST:
                raise re.error("longer than any path")
            rules.append((re.compile(_translate(clean) + r"(?:/.*)?", re.DOTALL), keeps))
        except re.error:
            raise DefinitionError(f"{file}:{number}: `{format_value(pattern)}` is not a pattern") from None

    def is_ignored(path: str) -> bool:
        ignored = False
        for rule, keeps in rules:
            if ignored == keeps and rule.fullmatch(path):
                ignored = not keeps
        return ignored

    return is_ignored


def _translate(pattern: str) -> str:
    return "".join(_token(match[0]) for match in _TOKENS.finditer(pattern))


def _token(token: str) -> str:
    if token.startswith("**"):  # several mean the same as one, and would make matching exponential
        return r"(?:.*/)?" if token.endswith("/") else r".*"
    match token:
        case "*":
            return r"[^/]*"
        case "?":
            return r"[^/]"
        case _ if token.startswith("[") and len(token) > 1:
            return token.replace("[!", "[^", 1) if token.startswith("[!") else token
        case _:
            return re.escape(token[-1])
