"""Find the packages installed in a chain of layers by reading their tars: dpkg records, copyright, Python metadata.

Layers are applied from the lowest up, with the whiteouts of the OCI image specification; nothing is unpacked to disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from buildkit.layers.root.dpkg import STATUS, STATUS_FOLDER
from buildkit.layers.root.layered_files import LayeredFiles

_APK = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
_WANTED = re.compile(
    rf"{re.escape(STATUS)}|(?:usr/)?lib/apk/db/installed|{re.escape(STATUS_FOLDER)}[^/]+|(?:etc|usr/lib)/os-release"
    r"|usr/share/doc/[^/]+(?:/copyright)?"
    r"|(?:.+/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)"
)
_FIELD = re.compile(r"^(Package|Version|Status|Architecture|Source):[ \t]*(.*)$", re.MULTILINE)
_RELEASE = re.compile(r"^(ID|ID_LIKE|VERSION_CODENAME|VERSION_ID|PRETTY_NAME)=[\"']?([^\"'\n]*)", re.MULTILINE)
_APK_FIELD = re.compile(r"^([PV]):(.*)$", re.MULTILINE)
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
        self._tree = LayeredFiles(_WANTED.fullmatch)
        self._debs: dict[Deb, int] = {}
        self._python: dict[str, int] = {}
        self._depth = 0

    def add(self, chunks: Iterable[bytes], what: str) -> None:
        """Apply the tar of the next layer; raises BuildError, which names it as ``what``, if it is damaged."""
        added = self._tree.add(chunks, what)
        self._python = {path: depth for path, depth in self._python.items() if path in self._tree.files}
        self._python |= {path: self._depth for path in added if path.endswith(("/METADATA", "-INFO", ".egg-info"))}
        present = _parse_debs(self._tree.files)
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
            path: (self._tree.files[path].decode("utf-8", "replace"), depth)
            for path, depth in sorted(self._python.items())
            if path in self._tree.files and not (own and _DEBIANS_PYTHON.match(path))
        }

    @property
    def distributions(self) -> dict[str, str]:
        """Metadata of all installed Python packages by path."""
        return {
            path: data.decode("utf-8", "replace")
            for path, data in sorted(self._tree.files.items())
            if path.endswith(("/METADATA", "-INFO", ".egg-info"))
        }

    @property
    def apks(self) -> dict[str, str]:
        """Versions of installed Alpine packages by name."""
        data = next(filter(None, map(self._tree.read, _APK)), b"")
        fields = [dict(_APK_FIELD.findall(part)) for part in data.decode("utf-8", "replace").split("\n\n")]
        return {one["P"]: one["V"] for one in fields if one.keys() >= {"P", "V"}}

    @property
    def release(self) -> dict[str, str]:
        """``ID``, ``VERSION_ID``, ``VERSION_CODENAME`` and ``PRETTY_NAME`` of os-release(5)."""
        data = self._tree.read("etc/os-release") or self._tree.read("usr/lib/os-release") or b""
        return dict(_RELEASE.findall(data.decode("utf-8", "replace")))

    def copyright(self, package: str) -> str | None:
        """Return the copyright file of a Debian package; None if the layers hold none."""
        data = self._tree.read(f"{self._tree.resolve(f'usr/share/doc/{package}')}/copyright")
        return None if data is None else data.decode("utf-8", "replace")


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
