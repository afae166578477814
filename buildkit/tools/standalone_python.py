"""Archives of python-build-standalone, found and fetched by uv: its list, mirror, certificates and proxies count.

uv fetches an archive into ``UV_PYTHON_CACHE_DIR`` and compares it with the hash of its list before it unpacks it
(https://docs.astral.sh/uv/concepts/python-versions/#managed-python-distributions).
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from buildkit.digest import FileHash
from buildkit.errors import BuildError, DefinitionError, FetchError, MismatchError, ToolError
from buildkit.hostile_json import JsonValue, MalformedError, parse_json
from buildkit.locks.pins import PythonArchive
from buildkit.tools.index_settings import host_of
from buildkit.tools.installer_files import load_uv_tables
from buildkit.tools.process import Command, run
from buildkit.tools.resolver import uv_program

_UPSTREAM = "https://github.com/astral-sh/python-build-standalone/releases/download"
_COPIES = ("https://releases.astral.sh/github/python-build-standalone/releases/download", _UPSTREAM)  # as uv asks them
_BUILD = re.compile(r"(?:\+|%2B)([0-9]{8}(?:T[0-9]+)?)-")
_CAUSE = re.compile(r"^\s*(?:cause|error): (.+)$", re.MULTILINE)
_RELEASE = re.compile(r"3\.([0-9]{1,3})\.([0-9]{1,3})")
_MOST = 32 << 20  # bytes of a list
_MOST_ENTRIES = 100_000
_SHOWN = 3
_QUIET = {"NO_COLOR": "1", "UV_PYTHON_INSTALL_REGISTRY": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedPython:
    """A Python of uv's list for one processor: its release (``3.12.16``), build, uv's name for it, and its URL."""

    version: str
    build: str
    arch: str
    key: str
    url: str

    @property
    def numbers(self) -> tuple[int, int]:
        """Minor version and patch level."""
        found = _RELEASE.fullmatch(self.version)
        return (int(found[1]), int(found[2])) if found else (0, 0)


def list_pythons(root: Path) -> tuple[ListedPython, ...]:
    """Return what uv's list has for Linux with glibc, with the settings of the checkout ``root``; the newest first.

    Raises ToolError if the list cannot be read.
    """
    argv = (
        *uv_program(), "python", "list",
        "--only-downloads", "--all-versions", "--all-platforms", "--all-arches",
        "--output-format", "json",
    )  # fmt: skip
    listed = run(Command(argv=argv, cwd=root, env=_QUIET, what="reading uv's list of Pythons")).stdout
    try:
        found = list(_read(parse_json(listed, limit=_MOST, what="uv's list of Pythons")))
    except MalformedError as error:
        raise ToolError(f"uv's list of Pythons: {error}") from error
    return tuple(sorted(found, key=lambda one: (one.numbers, one.build), reverse=True))


def _read(document: JsonValue) -> Iterator[ListedPython]:
    wanted = {"implementation": "cpython", "os": "linux", "libc": "gnu", "variant": "default"}
    for entry in document.items(_MOST_ENTRIES):
        if any(entry.member(name).text() != value for name, value in wanted.items()):
            continue
        version, url = entry.member("version").text(), entry.member("url").text()
        built = _BUILD.search(url.rpartition("/")[2])
        if _RELEASE.fullmatch(version) and built:
            arch, key = entry.member("arch").text(), entry.member("key").text()
            yield ListedPython(version=version, build=built[1], arch=arch, key=key, url=url)


def choose_python(listed: Iterable[ListedPython], python: str, arch: str) -> ListedPython:
    """Return the newest that ``python`` (``3.12`` or ``3.12.16``) asks for. Raises DefinitionError if there is none."""
    ours = [one for one in listed if one.arch == arch]
    for one in ours:
        if python in (one.version, one.version.rpartition(".")[0]):
            return one
    if not ours:
        raise DefinitionError(
            f"uv's list has no Python for {arch}", hint="does UV_PYTHON_DOWNLOADS_JSON_URL name a list of your own?"
        )
    near = ", ".join(_nearest(ours, python))
    raise DefinitionError(
        f"pyproject.toml: tool.buildkit.python: uv's list has no Python {python} for {arch}; the nearest are {near}",
        hint="ask for one of them, or take a newer uv, whose list is newer",
    )


def _nearest(listed: list[ListedPython], python: str) -> list[str]:
    minor, patch = ([int(part) for part in python.split(".")[1:]] + [1 << 30])[:2]
    ordered = sorted(
        listed, key=lambda one: (abs(one.numbers[0] - minor), -one.numbers[0], abs(one.numbers[1] - patch))
    )
    return [one.version for one in ordered[:_SHOWN]]


def pin_python(chosen: ListedPython, root: Path) -> PythonArchive:
    """Fetch an archive through uv, which verifies it, and return its pin; nothing is kept.

    Raises MismatchError if the archive differs from the list, else FetchError.
    """
    with tempfile.TemporaryDirectory(prefix="buildkit-python-") as folder:
        cache = Path(folder) / "cache"
        argv = (
            *uv_program(), "python", "install", "--no-progress", "--no-bin",
            "--install-dir", f"{folder}/unpacked",
            "--", chosen.key,
        )  # fmt: skip
        env = {**_QUIET, "UV_PYTHON_CACHE_DIR": str(cache), "UV_PYTHON_DOWNLOADS": "manual"}
        try:
            run(Command(argv=argv, cwd=root, env=env, what=f"fetching Python {chosen.version} with uv"))
        except ToolError as error:
            raise _explain(error, chosen) from None
        kept = [path for path in cache.iterdir() if path.is_file()]
        if len(kept) != 1:
            raise BuildError(f"uv kept {len(kept)} archives of Python {chosen.version}, and one was expected")
        with kept[0].open("rb") as file:
            sha256 = FileHash(hashlib.file_digest(file, "sha256").hexdigest())
        return PythonArchive(
            version=chosen.version,
            build=chosen.build,
            arch=chosen.arch,
            url=clean_url(chosen.url),
            sha256=sha256,
            size=kept[0].stat().st_size,
        )


def _explain(error: ToolError, chosen: ListedPython) -> BuildError:
    what, host = f"Python {chosen.version} for {chosen.arch}", host_of(chosen.url)
    if "Hash mismatch" in error.output:
        return MismatchError(
            f"{what}: {host} has an archive of other bytes than uv's list says",
            hint="it was replaced or altered; UV_PYTHON_INSTALL_MIRROR names another mirror",
        )
    causes = [cause for cause in _CAUSE.findall(error.output) if "://" not in cause]  # URLs may have credentials
    return FetchError(
        f"{what} cannot be fetched from {host}: {causes[-1] if causes else 'uv says no more'}",
        hint="is a mirror needed? set UV_PYTHON_INSTALL_MIRROR, or python-install-mirror in uv's settings",
    )


def clean_url(url: str) -> str:
    """Return the archive's public URL: a lock names neither a mirror nor credentials."""
    build, file = url.split("/")[-2:]
    if _BUILD.search(file) and re.fullmatch(r"[0-9]{8}(T[0-9]+)?", build):
        return f"{_UPSTREAM}/{build}/{file}"
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(url), parts.path, "", ""))


def find_python_urls(archive: PythonArchive, root: Path, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return where to fetch an archive, in order: from the mirror of uv's settings alone, if they name one.

    A mirror's URL may contain credentials: never print it.
    """
    settings = (str(table.get("python-install-mirror", "")) for table in load_uv_tables(root, env))
    mirror = env.get("UV_PYTHON_INSTALL_MIRROR") or next(filter(None, settings), "")
    if not archive.url.startswith(f"{_UPSTREAM}/"):
        return (archive.url,)
    place = archive.url.removeprefix(_UPSTREAM)
    return tuple(f"{copy.rstrip('/')}{place}" for copy in ((mirror,) if mirror else _COPIES))
