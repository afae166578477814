"""What names the interpreter of a root in recipes, and whether two roots have the same. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from buildkit.declare.project import Project
from buildkit.plan.spec import STANDALONE_BUILD, MakeRoot, PackPython, PullImage, Spec

_DEBIANS_PYTHON = "/usr/bin/python3"


def find_python_pins(chain: Sequence[Spec], project: Project) -> tuple[str, ...]:
    """Return what names the interpreter of a root (``NAME=VERSION``): Debian's packages, or the build of its own.

    That is nothing if something else brings it.
    """
    own = [spec.work.archive for spec in chain if isinstance(spec.work, PackPython)]
    if own:
        return (f"{STANDALONE_BUILD}={own[0].release}",)  # whatever the root
    first = chain[0].work if chain else None
    pins = first.pins if isinstance(first, MakeRoot) else ()
    if not project.target.interpreter.startswith(_DEBIANS_PYTHON):
        return ()  # a later step installs the interpreter
    return tuple(f"{pin.name}={pin.version}" for pin in pins if pin.name.startswith(("python3", "libpython3")))


def is_same_python(first: Sequence[Spec], second: Sequence[Spec], project: Project) -> bool:
    """Tell whether two roots have one release of Python, as far as locks say: by version, or by digest."""
    if pins := find_python_pins(first, project):
        return pins == find_python_pins(second, project)
    pulled = _pulled(first)
    return bool(pulled) and pulled == _pulled(second)


def _pulled(chain: Sequence[Spec]) -> str:
    """Return the image that a root is, whatever the processor; empty for any other root."""
    return chain[0].work.ref if len(chain) == 1 and isinstance(chain[0].work, PullImage) else ""
