"""Which layers this machine can make only by emulating another processor, and why. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from buildkit.declare.project import Project
from buildkit.declare.target import deb_arch_of
from buildkit.digest import Key
from buildkit.lazy_dataclass import dataclass
from buildkit.plan.compose import Composer
from buildkit.plan.spec import BuildContainerfile, MakeRoot, PackPython, PackWheels, RunStep, Spec, arch_of

_PYTHON = re.compile(r"(?:lib)?python3\.\d+(?:-minimal|-stdlib)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedWork:
    """A layer whose making runs programs of another processor, and which programs these are."""

    layer: str
    what: str


def find_emulated(
    specs: Sequence[Spec], project: Project, composer: Composer, has_wheel: Callable[[Key], object] = lambda _key: None
) -> Iterator[EmulatedWork]:
    """Yield the layers of ``specs`` that cannot be made here without emulation.

    ``has_wheel`` tells whether a compiled wheel is in the cache, by its key.
    """
    if not is_foreign(project.target.deb_arch, project):
        return
    for spec in specs:
        todo = [item.artifact.name for item in spec.compiled if not has_wheel(item.key)]
        what = f"the builder, for {', '.join(todo)}" if todo else _explain(spec, project, composer)
        if what:
            yield EmulatedWork(layer=spec.name, what=what)


def is_foreign(arch: str, project: Project) -> bool:
    """Tell whether this machine cannot run programs for ``arch`` (in Debian's terms; empty: not known) by itself."""
    return bool(arch and project.host) and arch != deb_arch_of(project.host)


def _explain(spec: Spec, project: Project, composer: Composer) -> str:
    match spec.work:
        case RunStep(chain=chain) if is_foreign(arch_of(chain), project):
            return "a step"
        case BuildContainerfile(arch=arch) if is_foreign(arch, project):
            return "a Containerfile"
        case MakeRoot(arch=arch) if not is_foreign(arch, project):
            return ""
        case MakeRoot() as root if root.debian.variant != "extract":
            return "scripts of packages"
        case MakeRoot() if project.bytecode and needs_library(spec) and not has_library(spec, composer, project):
            return "its Python, whose release this machine has not"
        case PackWheels() | PackPython(bytecode=True) if project.bytecode and is_foreign(
            arch_of(composer.compiler), project
        ):
            return "the bytecode compiler, whose release this machine has not"
        case _:
            return ""


def needs_library(spec: Spec) -> bool:
    """Tell whether a root holds a Python of Debian, whose library is compiled."""
    return bool(_python_packages(spec))


def has_library(spec: Spec, composer: Composer, project: Project) -> bool:
    """Tell whether the root of the bytecode compiler has the Python of another root, and it runs here."""
    chain = composer.compiler
    return not is_foreign(arch_of(chain), project) and _python_packages(spec) <= _python_packages(chain[0])


def _python_packages(spec: Spec) -> set[tuple[str, str]]:
    pins = spec.work.pins if isinstance(spec.work, MakeRoot) else ()
    return {(pin.name, pin.version) for pin in pins if _PYTHON.fullmatch(pin.name)}
