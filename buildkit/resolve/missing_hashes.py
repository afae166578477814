"""Hashes of pins that a resolver leaves out.

uv hashes no file of a page of links whose metadata it has, and of a folder of files only the one that it has read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence

from buildkit.digest import FileHash

_PIN = re.compile(
    r"^(?P<pin>(?P<name>[A-Za-z0-9][\w.-]*)==(?P<version>[^\s;\\]+)(?: ; [^\\\n]*?)?)"
    r"(?P<hashes>(?: \\\n    --hash=\S+)*)$",
    re.MULTILINE,
)


FindHashes = Callable[[str, str, Collection[str]], Sequence[FileHash] | None]
"""Return the hashes of a version's files, given its name, the version and the hashes that the pin has (as text)."""


def complete_hashes(text: str, find: FindHashes) -> str:
    """Return a lock's text with what ``find`` says added to the hashes of each pin that has none, or one.

    Files for several processors are at least two, so a pin of one hash may lack that of the file that fits.
    """

    def complete(line: re.Match[str]) -> str:
        known = re.findall(r"--hash=(\S+)", line["hashes"])
        if len(known) > 1:
            return line[0]
        hashes = sorted({*known, *map(str, find(line["name"], line["version"], known) or ())})
        return line["pin"] + "".join(f" \\\n    --hash={value}" for value in hashes)

    return _PIN.sub(complete, text)
