"""Distributions that the images have without a lock, as a resolver sees them: wheels with nothing but a version.

A resolver that is given them, and must take them, resolves everything else to fit. What they need themselves is the
business of whoever installed them, so the wheels say nothing about that.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterable
from pathlib import Path

_WHEEL = "Wheel-Version: 1.0\nGenerator: buildkit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_installed(packages: Iterable[tuple[str, str]], folder: Path) -> str:
    """Write a wheel for each name and version into ``folder``; return the constraints that they are.

    A version that packaging does not know (PEP 440) is left out: no requirement can name it.
    """
    from packaging.version import InvalidVersion, Version

    folder.mkdir()
    limits = []
    for name, text in packages:
        try:
            version = str(Version(text))
        except InvalidVersion:
            continue
        stem = f"{name.replace('-', '_')}-{version}"
        info = f"{stem}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{info}/METADATA", metadata)
            wheel.writestr(f"{info}/WHEEL", _WHEEL)
            wheel.writestr(f"{info}/RECORD", f"{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
        limits.append(f"{name}=={version}\n")
    return "".join(limits)


def drop_installed(lock: str, names: Collection[str]) -> str:
    """Return the text of a lock without the pins of ``names``, which are normalised, and the lines of those."""
    if not names:
        return lock
    known = "|".join(sorted(re.escape(name) for name in names))
    return re.sub(rf"^(?:{known})(?:\[[^]]*\])?==.*\n(?:[ \t]+.*\n)*", "", lock, flags=re.MULTILINE)


def find_conflicts(output: str, packages: Iterable[tuple[str, str]]) -> list[tuple[str, str, str]]:
    """Return name, wanted and installed version of what a resolver says does not fit, by its output."""
    words = re.sub(r"\s+", " ", output)
    found = []
    for name, version in packages:
        spelt = re.escape(name).replace(r"\-", "[-_.]")
        asked = re.findall(
            rf"(?<![\w.-]){spelt}(?:\[[^]]*\])? ?((?:[<>=!~]=?[^\s,;()`'\"]+(?:, ?(?=[<>=!~]))?)+)",
            words,
            re.IGNORECASE,
        )
        wanted = dict.fromkeys(text.rstrip(".") for text in asked)
        found += [(name, text, version) for text in wanted if text != f"=={version}"]
    return found
