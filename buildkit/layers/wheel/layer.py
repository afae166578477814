"""Wheels as members of a layer: the files that an installer would put into the image's virtual environment.

Implements the binary distribution format (PyPA specifications; PEP 427, 376, 627) through the ``installer`` library:
our source reads the wheel, the library decides the paths, our destination collects members. Nothing is unpacked to
disk: content is inflated while the tar is written, and RECORD's hashes are verified on the way. Where the specification
leaves a choice, this does as pip does in a virtual environment, except that bytecode inside a wheel is not installed,
because another interpreter compiled it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from buildkit.declare.target import Target
from buildkit.layers.tar.member import Member

if TYPE_CHECKING:
    from buildkit.layers.wheel.bytecode import Compiler


def wheel_members(wheel: Path, target: Target, compiler: Compiler | None = None) -> Iterator[Member]:
    """Yield what ``wheel`` installs for ``target``, RECORD last; with a ``compiler``, the bytecode of each module too.

    Everything that can be checked without inflating is checked before the first member is yielded. Raises WheelError,
    which names the wheel and the member, if the wheel is malformed, would write outside the prefix or over the virtual
    environment's own files, or does not hold the bytes that its RECORD lists.
    """
    from buildkit.layers.wheel.install import read_wheel  # slow to load: only builds that pack a layer need it

    installed = read_wheel(wheel, target)
    extra: list[str] = []
    if compiler is None:
        yield from installed.members
    else:
        from buildkit.layers.wheel.bytecode import compiled_members

        known = {member.path for member in installed.members}
        for member in compiled_members(installed.members, compiler):
            if member.path not in known:
                extra.append(member.path)
            yield member
    yield installed.record(extra)


def layer_of_wheels(wheels: Sequence[Path], target: Target, compiler: Compiler | None = None) -> Iterator[Member]:
    """Yield the members of a layer that holds ``wheels``, sorted by their projects' names.

    `write_layer` finds two wheels that own one path with different bytes, and names both.
    """
    for wheel in sorted(wheels, key=_project_name):
        yield from wheel_members(wheel, target, compiler)


def _project_name(wheel: Path) -> str:
    """Return the normalised name, which the recipe holds: indexes may spell file names differently."""
    from packaging.utils import canonicalize_name  # slow to load: only builds that pack a layer need it

    return canonicalize_name(wheel.name.partition("-")[0])
