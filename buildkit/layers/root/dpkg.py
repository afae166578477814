"""Parse the packages that dpkg lists as installed, and compare them with the lock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from buildkit.errors import MismatchError
from buildkit.locks.pins import AptPin

STATUS = "var/lib/dpkg/status"
STATUS_FOLDER = "var/lib/dpkg/status.d/"  # one file per package in roots without dpkg; scanners read both

SUMS = ".md5sums"  # in that folder too: the sums of a package's files (deb-md5sums(5))
# what images leave out: nobody reads it there
DOCUMENTATION = tuple(
    f"usr/share/{folder}/"
    for folder in ("bug", "doc", "doc-base", "gtk-doc", "help", "info", "lintian", "locale", "man", "pixmaps")
)

_FIELD = re.compile(rb"^(Package|Version|Status):[ \t]*(.*)$", re.MULTILINE)


def parse_packages(texts: Iterable[bytes]) -> tuple[AptPin, ...]:
    """Return the installed packages of status files (deb822 stanzas); one without a Status counts as installed."""
    found = set()
    for text in texts:
        for stanza in re.split(rb"\n[ \t]*\n", text):
            fields = {key: value.strip().decode("utf-8", "replace") for key, value in _FIELD.findall(stanza)}
            if b"Package" in fields and fields.get(b"Status", "installed").endswith("installed"):
                found.add((fields[b"Package"], fields.get(b"Version", "")))
    return tuple(AptPin(name=name, version=version) for name, version in sorted(found))


def keep_sums(text: bytes, is_kept: Callable[[str], bool]) -> bytes:
    """Return those lines of sums whose files are kept."""
    return b"".join(line for line in text.splitlines(keepends=True) if is_kept(_path(line)))


def has_files(sums: bytes) -> bool:
    """Return whether sums name a file besides documentation."""
    return any(not _path(line).startswith(DOCUMENTATION) for line in sums.splitlines() if line.strip())


def _path(line: bytes) -> str:
    return line.partition(b"  ")[2].strip().decode("utf-8", "replace")


def verify_packages(installed: tuple[AptPin, ...], pins: tuple[AptPin, ...]) -> None:
    """Raise MismatchError that names every package that is missing, additional or at another version than locked."""
    have = {pin.name: pin.version for pin in installed}
    require = {pin.name: pin.version for pin in pins}
    wrong = [f"{name} {require[name]} is locked and not installed" for name in sorted(require.keys() - have.keys())]
    wrong += [f"{name} {have[name]} is installed and not locked" for name in sorted(have.keys() - require.keys())]
    wrong += [
        f"{name} {have[name]} is installed, {require[name]} is locked"
        for name in sorted(require.keys() & have.keys())
        if require[name] != have[name]
    ]
    if wrong:
        raise MismatchError(
            f"the root's packages are not those of the lock: {'; '.join(wrong)}",
            hint="refresh the lock: nox -s lock -- --upgrade",
        )
