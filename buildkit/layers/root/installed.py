"""Find the packages installed in a chain of layers by reading their tars: dpkg records, copyright, Python metadata.

Layers are applied from the lowest up, with the whiteouts of the OCI image specification; nothing is unpacked to disk.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit.layers.root.dpkg import STATUS, STATUS_FOLDER
from buildkit.layers.tar.reader import TarReader
from buildkit.layers.tar.whiteout import find_removed_path

_LARGEST = 32 << 20  # bytes of one file: dpkg's status of the largest systems has less than ten million
_MOST = 256 << 20  # bytes of all files
_WANTED = re.compile(
    rf"{re.escape(STATUS)}|{re.escape(STATUS_FOLDER)}[^/]+|(?:etc|usr/lib)/os-release"
    r"|usr/share/doc/[^/]+(?:/copyright)?"
    r"|(?:.+/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)"
)
_FIELD = re.compile(r"^(Package|Version|Status|Architecture|Source):[ \t]*(.*)$", re.MULTILINE)
_RELEASE = re.compile(r"^(ID|VERSION_CODENAME|VERSION_ID)=[\"']?([^\"'\n]*)", re.MULTILINE)
_DEBIANS_PYTHON = re.compile(r"usr/lib/python3[^/]*/dist-packages/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deb:
    """An installed Debian package; ``source`` and its version are empty if they equal the package's own."""

    name: str
    version: str
    arch: str
    source: str = ""
    source_version: str = ""


class InstalledPackages:
    """The packages after each applied layer, with the layer that brought each (0 is the lowest)."""

    def __init__(self) -> None:
        self._files: dict[str, bytes] = {}
        self._links: dict[str, str] = {}
        self._debs: dict[Deb, int] = {}
        self._python: dict[str, int] = {}
        self._depth = 0

    def add(self, chunks: Iterable[bytes], what: str) -> None:
        """Apply the tar of the next layer; raises BuildError, which names it as ``what``, if it is damaged."""
        reader = TarReader(chunks, what)
        hidden: list[str] = []
        added: dict[str, bytes] = {}
        links: dict[str, str] = {}
        for member in reader:
            path = member.path.decode("utf-8", "replace")
            if removed := find_removed_path(path):
                hidden.append(removed)
            elif _WANTED.fullmatch(path):
                kind = member.fields["type"]
                if kind in ("symbolic link", "hard link"):
                    target = member.fields["link"]
                    links[path] = target if kind == "hard link" else _follow(posixpath.dirname(path), target)
                elif kind == "file" and member.size <= _LARGEST:
                    added[path] = b"".join(reader.content())
        self._apply(hidden, added, links)

    def _apply(self, hidden: list[str], added: dict[str, bytes], links: dict[str, str]) -> None:
        for path in [path for path in (*self._files, *self._links) if _is_hidden(path, hidden)]:
            self._files.pop(path, None)
            self._links.pop(path, None)
            self._python.pop(path, None)
        for path in links:
            self._files.pop(path, None)
        for path in added:
            self._links.pop(path, None)
        self._links |= links
        self._files |= added
        while sum(map(len, self._files.values())) > _MOST:
            self._files.popitem()  # no real system has as much: the layer is hostile, and its last files are dropped
        self._python |= {path: self._depth for path in added if path.endswith(("/METADATA", "-INFO", ".egg-info"))}
        present = _parse_debs(self._files)
        self._debs = {deb: self._debs.get(deb, self._depth) for deb in present}
        self._depth += 1

    @property
    def debs(self) -> dict[Deb, int]:
        """Installed Debian packages, sorted by name, with the layer that brought each."""
        return dict(sorted(self._debs.items(), key=lambda pair: (pair[0].name, pair[0].arch)))

    @property
    def python(self) -> dict[str, tuple[str, int]]:
        """Metadata of installed Python packages by path, with its layer, except for those that dpkg installed."""
        own = bool(self._debs)
        return {
            path: (self._files[path].decode("utf-8", "replace"), depth)
            for path, depth in sorted(self._python.items())
            if path in self._files and not (own and _DEBIANS_PYTHON.match(path))
        }

    @property
    def release(self) -> dict[str, str]:
        """``ID``, ``VERSION_ID`` and ``VERSION_CODENAME`` of os-release(5)."""
        data = self._read("etc/os-release") or self._read("usr/lib/os-release") or b""
        return dict(_RELEASE.findall(data.decode("utf-8", "replace")))

    def copyright(self, package: str) -> str | None:
        """Return the copyright file of a Debian package; None if the layers hold none."""
        folder = f"usr/share/doc/{package}"
        data = self._read(f"{self._resolve(folder)}/copyright")
        return None if data is None else data.decode("utf-8", "replace")

    def _read(self, path: str) -> bytes | None:
        return self._files.get(self._resolve(path))

    def _resolve(self, path: str) -> str:
        for _ in range(8):
            if path not in self._links:
                return path
            path = self._links[path]
        return path


def _parse_debs(files: dict[str, bytes]) -> list[Deb]:
    """Return the packages that dpkg's records list as installed; one without a Status counts as installed."""
    texts = [data for path, data in files.items() if path == STATUS or path.startswith(STATUS_FOLDER)]
    debs = []
    for stanza in (stanza for data in texts for stanza in re.split(r"\n[ \t]*\n", data.decode("utf-8", "replace"))):
        fields = {key: value.strip() for key, value in _FIELD.findall(stanza)}
        if "Package" not in fields or fields.get("Status", "installed").split()[-1:] != ["installed"]:
            continue
        source, _, version = fields.get("Source", "").partition(" ")
        deb = Deb(
            name=fields["Package"],
            version=fields.get("Version", ""),
            arch=fields.get("Architecture", ""),
            source=source,
            source_version=version.strip("() "),
        )
        debs.append(deb)
    return debs


def _is_hidden(path: str, hidden: list[str]) -> bool:
    return any(
        removed in (path, "/") or path.startswith(removed if removed.endswith("/") else f"{removed}/")
        for removed in hidden
    )


def _follow(folder: str, target: str) -> str:
    """Return the path, relative to the root, that a symbolic link in ``folder`` leads to."""
    return posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
