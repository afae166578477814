"""Wheels → members of a layer: what an installer would have put into the image's virtual environment.

By the binary distribution format (PyPA specifications; PEP 427, 376, 627) through the ``installer`` library: our
source reads the wheel, its rules say what goes where, our destination collects members. Nothing is unpacked:
content is inflated when the tar asks for it, and RECORD's hashes are verified on the way. Where the
specification leaves room, this does as pip does in a virtual environment, save that bytecode inside a wheel is
not installed (another interpreter made it).
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
    """What ``wheel`` installs for ``target``, RECORD last; with a ``compiler``, bytecode beside each module.

    Everything that can be judged without inflating is judged before the first member is given. Raises WheelError,
    naming the wheel and the member, if the wheel is malformed, would write outside the prefix or over the virtual
    environment's own files, or holds other bytes than its RECORD says.
    """
    from buildkit.layers.wheel.install import read_wheel  # heavy: only where something is packed

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
    """The members of a layer that holds ``wheels``, in the order of their projects' names, whatever order they come in.

    Two wheels that own one path with different bytes are found by `write_layer`, which knows both by name.
    """
    for wheel in sorted(wheels, key=_project_name):
        yield from wheel_members(wheel, target, compiler)


def _project_name(wheel: Path) -> str:
    """Normalised, for that alone is in the recipe: one index may write another file name than the next."""
    from packaging.utils import canonicalize_name  # a build that packs nothing must not pay for it

    return canonicalize_name(wheel.name.partition("-")[0])
