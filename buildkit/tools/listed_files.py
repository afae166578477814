"""Choose among the files that a lock of another tool lists for a version, as an index is not asked about them."""

from __future__ import annotations

from functools import cache

from buildkit.declare.target import Target
from buildkit.locks.pins import Pin, PinnedFile
from buildkit.tools.finder import make_target_python
from buildkit.tools.indexes import OfferedFile


def find_listed(pin: Pin, target: Target) -> PinnedFile | None:
    """Return the file that fits the target best, wheels before sdists, or None if none fits."""
    ranked = [(rank, file) for file in pin.files if (rank := _rank(file.name, pin.form, target)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def describe_listed(pin: Pin, target: Target) -> tuple[OfferedFile, ...]:
    """Return what is known of all files of the pin, for a message; such locks do not say Requires-Python of files."""
    return tuple(
        OfferedFile(
            form="wheel" if file.name.endswith(".whl") else "sdist",
            tags="-".join(file.name.removesuffix(".whl").split("-")[-3:]) if file.name.endswith(".whl") else "",
            fits=_rank(file.name, "", target) is not None,
            requires_python="",
        )
        for file in pin.files
    )


def _rank(file: str, form: str, target: Target) -> tuple[int, int] | None:
    """Return the place of a file among others, the best one first; None for one that does not fit."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    ranks = _ranks(target)
    if not file.endswith(".whl"):
        return None if form == "wheel" else (len(ranks), 0)
    if form == "sdist":
        return None
    try:
        _, _, build, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return None
    fitting = [ranks[str(tag)] for tag in tags if str(tag) in ranks]
    return (min(fitting), -build[0] if build else 0) if fitting else None


@cache
def _ranks(target: Target) -> dict[str, int]:
    """Return the tags of wheels that fit the target with their places, the best first."""
    return {str(tag): number for number, tag in enumerate(make_target_python(target).supported_tags())}
