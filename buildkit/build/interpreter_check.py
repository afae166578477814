"""Checks that a root or a builder has the Python that is started in it, before a container fails in many lines."""

from __future__ import annotations

from buildkit.build.context import BuildContext
from buildkit.build.image_paths import ImagePaths, UnknownListingError
from buildkit.build.start_check import find_missing_interpreter
from buildkit.declare.target import Target
from buildkit.errors import DefinitionError
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, Spec

_SETTINGS = (
    "say what the root has: `python` and `interpreter` in [tool.buildkit]; add that Python to its apt list; "
    'or give the images one of their own: interpreter = "standalone"'
)
_LINKERS = ("/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1")  # by the ABI; compilers may be of another one
_DEBIANS = ("/usr/lib/python3/dist-packages", "/usr/local/lib/python3/dist-packages")


def check_interpreter(context: BuildContext, chain: tuple[Spec, ...]) -> None:
    """Raise DefinitionError if the root that compiles bytecode has no interpreter of the target, or cannot start it."""
    target, paths = context.project.target, ImagePaths(context, chain)
    try:
        missing = find_missing_interpreter(paths, target)
        if target.standalone and all(paths.find(linker) is None for linker in _LINKERS):
            raise DefinitionError(
                f"stages/{_stage(chain)}: the root has no glibc ({' or '.join(_LINKERS)}), "
                "which the images' own Python and its wheels need",
                hint="a root of musl, such as Alpine's, cannot run them: take one of Debian or Ubuntu",
            )
    except UnknownListingError:
        return
    if missing:
        raise DefinitionError(f"stages/{_stage(chain)}: {missing}", hint=_SETTINGS)


def check_release(tag: str, target: Target, name: str) -> None:
    """Raise DefinitionError if the interpreter that started, of cache tag ``tag``, is not of the target's release."""
    expected = f"cpython-{target.minor.replace('.', '')}"
    if tag.startswith("cpython-") and tag != expected:
        raise DefinitionError(
            f"{target.interpreter} of stages/{name.split('/')[0]} is {tag}, and [tool.buildkit] says "
            f'python = "{target.python}", which is {expected}',
            hint=_SETTINGS,
        )


def check_builder(context: BuildContext, builder: Composition) -> None:
    """Raise DefinitionError if no wheel can be compiled in the builder: it has no Python, or no pip."""
    target, file = context.project.target, builder.stage.file
    paths = ImagePaths(context, builder.specs)
    try:
        python = f"{target.prefix}/bin/python"
        if paths.find(python) is None:
            has_prefix = any(spec.kind is Kind.PREFIX for spec in builder.layers)
            if missing := has_prefix and find_missing_interpreter(paths, target):
                raise DefinitionError(f"{file}: {missing}", hint=_SETTINGS)
            raise DefinitionError(
                f"{file}: wheels are compiled by {python}, which the builder lacks",
                hint="give it [wheels] with a lock that has pip and the packages' build systems",
            )
        places = (f"/{target.site_packages}", f"/usr/local/lib/python{target.minor}/site-packages", *_DEBIANS)
        if all(paths.find(f"{place}/pip/__init__.py") is None for place in places):
            locks = ", ".join(builder.stage.wheels)
            raise DefinitionError(
                f"{file}: wheels are compiled by pip, which the builder lacks",
                hint=f"add pip and the packages' build systems to {f'the input of {locks}' if locks else '[wheels]'}",
            )
    except UnknownListingError:
        return


def _stage(chain: tuple[Spec, ...]) -> str:
    return chain[0].name.split("/")[0]
