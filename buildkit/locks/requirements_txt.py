"""Requirements locks (``requirements/NAME.txt``) as uv and pip-compile write them: text to pins.

The format is a subset of pip's requirements file: ``name==version`` with hashes and an optional marker, paths of
packages of the repository (``./libs/x``), files at a URL (``x @ https://…/x-1.0.tar.gz``) and commits of git
repositories (``x @ git+https://…@COMMIT``), and ``--no-binary`` and ``--only-binary``. Everything else in a lock is an
error, and all errors of a file are reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from types import MappingProxyType
from urllib.parse import unquote

from buildkit.declare.schema import format_value
from buildkit.declare.target import Target
from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, Problem
from buildkit.locks.file_forms import FileForms
from buildkit.locks.git_source import GitSource, parse_git_source
from buildkit.locks.pins import Pin, PinnedFile

DescribeLocal = Callable[[str], tuple[str, str]]
"""Return name and version of the repository's package at a path (``./libs/x``). Raises DefinitionError."""

_HASH = re.compile(r"\s--hash[=\s]\s*(\w+):(\S+)")
_PIN = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*+(?:\[[^]]*+\])?\s*+(===?)\s*([^\s;,]+)")
_LOCAL = re.compile(
    r"(?:(?:-e|--editable)[\s=]\s*)?(?:[\w.-]++\s*+(?:\[[^]]*+\])?\s*+@\s*+)?(?:file:)?(\.{1,2}/[^\s;\[]*)(?:\[[^]]*\])?"
)
_GIT = re.compile(r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*+(?:\[[^]]*+\])?\s*+@\s*+(git\+\S+)")
_FILE = re.compile(
    r"(?P<name>[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*+(?:\[[^]]*+\])?\s*+@\s*+"
    r"(?P<url>https?://[^\s@#?]+/[^\s@#?/]+\.(?:whl|tar\.gz|zip))(?:#\S*)?"
)
_URL = re.compile(r"(?:^|@\s*|^-e\s+)(?:git\+|hg\+|svn\+|bzr\+)?(?:https?|ssh|file|git)(?:://|:)", re.IGNORECASE)
_SOURCES = ("-i", "-f", "--index-url", "--extra-index-url", "--find-links", "--no-index", "--trusted-host")
_FORMS = {"": "may be any file", "sdist": "must be an sdist", "wheel": "must be a wheel"}
_RELEASE = re.compile(r"python_full_version|implementation_version")
_HEX = re.compile(r"[0-9a-f]{64}")


class _LineError(Exception):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def parse_requirements(text: str, file: str, *, describe_local: DescribeLocal | None = None) -> tuple[Pin, ...]:
    """Parse the pins of a lock, in order. Raises DefinitionError with every problem found.

    ``describe_local`` returns name and version of packages of the repository; without it a path is a problem.
    """
    pins: list[Pin] = []
    problems: list[Problem] = []
    forms = FileForms()
    for number, line in logical_lines(text):
        if forms.read(line):
            continue
        try:
            pins.append(_parse_line(line, (file, number), describe_local))
        except _LineError as error:
            problems.append(Problem(file=f"{file}:{number}", what=error.what, hint=error.hint))
        except DefinitionError as error:
            problems.append(Problem(file=f"{file}:{number}", what=error.message, hint=error.hint))
    if problems:
        raise DefinitionError.of(problems)
    return tuple(pin if pin.path or pin.git else replace(pin, form=forms.find(pin.name)) for pin in pins)


def applicable(
    pins: Sequence[Pin], target: Target, chosen: Mapping[str, str | AbstractSet[str]] = MappingProxyType({})
) -> tuple[Pin, ...]:
    """Return the pins whose markers hold on ``target``, in order.

    ``chosen`` are the ``extras`` and ``dependency_groups`` to which markers of pylock.toml refer, or an ``extra``.
    Raises DefinitionError if a name has two versions, or if a marker needs a patch level that the target does not say.
    """
    environment: dict[str, str | AbstractSet[str]] = {**target.markers, "extra": "", **chosen}
    first: dict[str, Pin] = {}
    problems = [
        Problem(
            file=pin.at,
            what=f'{pin.name}: whether `{pin.marker}` holds is not known from python = "{target.python}"',
            hint=f'set the full version of the root\'s Python in [tool.buildkit], as in: python = "{target.minor}.5"',
        )
        for pin in pins
        if _needs_patch(pin.marker, target, chosen)
    ]
    kept = tuple(pin for pin in pins if not pin.marker or _holds(pin.marker, environment))
    for pin in kept:
        other = first.setdefault(pin.name, pin)
        if other.version != pin.version:
            what = f"{pin.name}=={pin.version}, but {other.at} pins {pin.name}=={other.version} for the same target"
            hint = "" if pin.files else "run: nox -s lock"
            problems.append(Problem(file=pin.at, what=what, hint=hint))
    if problems:
        raise DefinitionError.of(problems)
    return tuple(pin for pin in kept if first[pin.name] is pin)


def check_agreement(pins_by_file: Mapping[str, Sequence[Pin]]) -> tuple[Problem, ...]:
    """Return one problem for each name that locks of one image pin to different versions, with both places.

    ``pins_by_file`` contains only the pins that apply to the target.
    """
    first: dict[str, Pin] = {}
    problems = []
    for pin in (pin for pins in pins_by_file.values() for pin in pins):
        other = first.setdefault(pin.name, pin)
        if (other.version, other.path, other.git) != (pin.version, pin.path, pin.git):
            what = f"{_format_pin(pin)}, but {other.at} pins {_format_pin(other)}"
            ours = pin.file.endswith(".txt") and other.file.endswith(".txt")
            way = "run: nox -s lock" if ours else "one of the two comes from another tool: lock the same version there"
            hint = f"locks used in one image must agree; {way}"
            problems.append(Problem(file=pin.at, what=what, hint=hint))
        elif other.form != pin.form:
            what = f"{pin.name} {_FORMS[pin.form]}, but {other.at} {_FORMS[other.form]}"
            hint = "one image gets one file: write the same --no-binary or --only-binary line in both inputs"
            problems.append(Problem(file=pin.at, what=what, hint=hint))
    return tuple(problems)


def normalise_name(name: str) -> str:
    """Return a project's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _format_pin(pin: Pin) -> str:
    place = pin.path or str(pin.git or "")
    return f"{pin.name} from {place}" if place else f"{pin.name}=={pin.version}"


def _holds(marker: str, environment: Mapping[str, str | AbstractSet[str]]) -> bool:
    from packaging.markers import Marker

    return Marker(marker).evaluate(dict(environment), context="lock_file")


def _needs_patch(marker: str, target: Target, chosen: Mapping[str, str | AbstractSet[str]]) -> bool:
    """Whether a marker holds on some releases of the target's Python and not on others, and the target is not exact."""
    if not _RELEASE.search(marker) or target.minor not in marker or target.is_exact:
        return False
    named = [int(digits) for digits in re.findall(rf"{re.escape(target.minor)}\.(\d{{1,4}})", marker)]
    patches = {0, 9999, *(patch + step for patch in named for step in (-1, 0, 1))} - {-1}
    releases = (replace(target, python=f"{target.minor}.{patch}").markers for patch in sorted(patches))
    return len({_holds(marker, {**release, "extra": "", **chosen}) for release in releases}) > 1


def logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield lines without comments, continuation lines joined, with the number of the first."""
    start, parts = 0, list[str]()
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).rstrip()
        start = start or number
        continues = line.endswith("\\")
        parts.append(line[:-1] if continues else line)
        if not continues:
            if joined := " ".join(part.strip() for part in parts).strip():
                yield start, joined
            start, parts = 0, []
    if joined := " ".join(part.strip() for part in parts).strip():
        yield start, joined


def _parse_line(line: str, place: tuple[str, int], describe: DescribeLocal | None) -> Pin:
    body = _HASH.sub("", line).strip()
    body, _, marker = (part.strip() for part in body.partition(";"))
    _check_marker(marker)
    file, number = place
    if local := _LOCAL.fullmatch(body):
        if describe is None:
            raise _LineError(f"a package of the repository ({local[1]}) is not allowed here")
        name, version = describe(local[1])
        return Pin(
            name=normalise_name(name), version=version, hashes=(), file=file, line=number, marker=marker,
            path=_plain_path(local[1]),
        )  # fmt: skip
    if git := _GIT.fullmatch(body):
        return Pin(
            name=normalise_name(git[1]), version="", hashes=(), file=file, line=number, marker=marker,
            git=_parse_git(git[2]),
        )  # fmt: skip
    pinned, url = _PIN.fullmatch(body), _FILE.fullmatch(body)
    if pinned is None and url is None:
        raise _explain(body)
    hashes = _parse_hashes(line)
    if not hashes:
        raise _LineError(f"{format_value(body)} has no sha256 hash", "run: nox -s lock")
    if url:
        return _file_pin(url, hashes, place, marker)
    assert pinned is not None  # noqa: S101 - one of the two
    return Pin(
        name=normalise_name(pinned[1]), version=pinned[3], hashes=hashes, file=file, line=number, marker=marker
    )  # fmt: skip


def _file_pin(found: re.Match[str], hashes: tuple[FileHash, ...], place: tuple[str, int], marker: str) -> Pin:
    """Return the pin of ``NAME @ URL``, whose version is in the name of the file."""
    url = found["url"]
    name = unquote(url.rpartition("/")[2])
    files = tuple(PinnedFile(name=name, sha256=sha256, place=url) for sha256 in hashes[:1])
    return Pin(
        name=normalise_name(found["name"]), version=find_file_version(name), hashes=hashes[:1], file=place[0],
        line=place[1], marker=marker, files=files,
    )  # fmt: skip


def find_file_version(file: str) -> str:
    """Return the version in the name of a wheel or an sdist; empty if it has another name."""
    from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename

    try:
        return str(parse_wheel_filename(file)[1] if file.endswith(".whl") else parse_sdist_filename(file)[1])
    except (InvalidWheelFilename, InvalidSdistFilename):
        return ""


def _parse_git(text: str) -> GitSource:
    try:
        return parse_git_source(text)
    except ValueError as error:
        raise _LineError(f"the package {error}", "see docs/locks.md, packages from git") from None


def _check_marker(marker: str) -> None:
    if not marker:
        return
    from packaging.markers import InvalidMarker, Marker

    try:
        Marker(marker)
    except (InvalidMarker, RecursionError):
        raise _LineError(f"`{marker[:80]}` is not a marker") from None


def _parse_hashes(line: str) -> tuple[FileHash, ...]:
    hashes = []
    for algorithm, digits in _HASH.findall(line):
        if algorithm != "sha256":
            continue  # uv and pip-compile may add others; only sha256 is verified
        if not _HEX.fullmatch(digits):
            raise _LineError(f"`{digits[:80]}` is not a SHA-256")
        hashes.append(FileHash(digits))
    return tuple(hashes)


def _explain(body: str) -> _LineError:
    body = format_value(body)
    word = re.split(r"[\s=]", body, maxsplit=1)[0]
    if word in _SOURCES:
        return _LineError(f"a lock must not name an index (`{word}`)", "configure pip or uv, then run: nox -s lock")
    if _URL.search(body):
        return _LineError(f"`{body}` is a URL", "pin a version from an index, or put the package under ./libs")
    if body.startswith("-"):
        return _LineError(f"unknown option `{word}`", "a lock contains only pins; run: nox -s lock")
    if body.startswith(("/", "file:")):
        return _LineError(f"`{body}` is an absolute path", "write it relative to the repository: ./libs/NAME")
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*+\s*+(\[[^]]*+\])?\s*+([<>!=~].*)?", body):
        return _LineError(f"`{body}` is not pinned with ==", "run: nox -s lock")
    return _LineError(f"cannot read `{body[:80]}`")


def _plain_path(path: str) -> str:
    return path.rstrip("/")
