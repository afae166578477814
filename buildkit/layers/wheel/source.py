"""What the ``installer`` library reads of a wheel: names, metadata and RECORD, checked before anything is installed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from email.parser import HeaderParser
from typing import BinaryIO, cast

from installer.records import InvalidRecordEntry, parse_record_file
from installer.sources import WheelContentElement, WheelSource
from installer.utils import SCHEME_NAMES
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from buildkit.layers.wheel.archive import WheelZip

_TEXT_LIMIT = 64 << 20  # bytes: RECORD of a wheel with half a million files


class LazyContent(io.RawIOBase):
    """A placeholder for a member's content, which the destination reads later by name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.member = name


class CheckedSource(WheelSource):
    """The library's view of a wheel: its names and metadata, checked, and its contents.

    Raises WheelError for a malformed wheel, or one that calls itself otherwise.
    """

    def __init__(self, archive: WheelZip) -> None:
        self.archive = archive
        try:
            self.project, self._version, _, _ = parse_wheel_filename(archive.path.name)
        except InvalidWheelFilename as error:
            raise archive.refuse(f"has a name that no wheel has: {error}") from error
        self._tops = sorted({path.split("/", 1)[0] for path in archive.files})
        distribution, version = archive.path.name.split("-")[:2]
        super().__init__(distribution, version)
        self._info_dir = self._find_info_dir()
        self._data_dir = self._find_data_dir()
        self._check_metadata()
        self.recorded = self._read_record()

    @property
    def dist_info_dir(self) -> str:
        """The folder of the wheel's metadata, at its top."""
        return self._info_dir

    @property
    def data_dir(self) -> str:
        """The folder of files for other schemes; it need not exist."""
        return self._data_dir

    @property
    def dist_info_filenames(self) -> list[str]:
        """The files of the metadata, relative to their folder."""
        start = f"{self._info_dir}/"
        return [path.removeprefix(start) for path in self.archive.files if path.startswith(start)]

    def read_dist_info(self, filename: str) -> str:
        """Return a file of the metadata. Raises WheelError if it is not UTF-8."""
        path = f"{self._info_dir}/{filename}"
        try:
            return self.archive.read(path, _TEXT_LIMIT).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.archive.refuse("is not UTF-8", path) from error

    def get_contents(self) -> Iterator[WheelContentElement]:
        """Yield RECORD's row of each file to install, a `LazyContent`, and whether it is executable."""
        for path in self.archive.files:
            if "__pycache__" in path.split("/")[:-1] or path == f"{self._info_dir}/INSTALLER":
                continue
            row = (path, *self.recorded.get(path, ("", "")))
            yield row, cast("BinaryIO", LazyContent(path)), self.archive.is_executable(path)

    def _find_info_dir(self) -> str:
        found = [top for top in self._tops if top.endswith(".dist-info")]
        if len(found) != 1 or not self._is_ours(found[0].removesuffix(".dist-info")):
            has = ", ".join(found) or "none"
            raise self.archive.refuse(f"must have one .dist-info folder with its own name, but has: {has}")
        return found[0]

    def _find_data_dir(self) -> str:
        found = [top for top in self._tops if top.endswith(".data")]
        if len(found) > 1 or any(not self._is_ours(top.removesuffix(".data")) for top in found):
            raise self.archive.refuse(f"must have no .data folder but its own; it has: {', '.join(found)}")
        for path in self.archive.files:
            parts = path.split("/", 2)
            if parts[0] in found and (len(parts) < 3 or parts[1] not in SCHEME_NAMES):
                raise self.archive.refuse("is in no scheme that an installer knows", path)
        return found[0] if found else f"{self.distribution}-{self.version}.data"

    def _is_ours(self, stem: str) -> bool:
        name, _, version = stem.rpartition("-")
        return self._matches(name, version)

    def _matches(self, name: str, version: str) -> bool:
        try:
            return canonicalize_name(name) == self.project and Version(version) == self._version
        except InvalidVersion:
            return False

    def _check_metadata(self) -> None:
        metadata = HeaderParser().parsestr(self.read_dist_info("METADATA"))
        name, version = str(metadata["Name"]), str(metadata["Version"])
        if not self._matches(name, version):
            raise self.archive.refuse(f"calls itself {name} {version}", f"{self._info_dir}/METADATA")

    def _read_record(self) -> dict[str, tuple[str, str]]:
        rows = parse_record_file(self.read_dist_info("RECORD").splitlines())
        try:
            return {path: (hash_, size) for path, hash_, size in rows}
        except InvalidRecordEntry as error:
            raise self.archive.refuse(f"is malformed: {error}", f"{self._info_dir}/RECORD") from error
