"""Compose the layers of the images' own Python, which no root has: all stages share them. Pure."""

from __future__ import annotations

from buildkit.declare.project import Project
from buildkit.declare.target import STANDALONE
from buildkit.layers.python_archive import EXCLUDE
from buildkit.locks.pins import PythonArchive
from buildkit.plan.spec import Kind, PackPython, Spec, make_recipe

_UNPACK_RATIO = 4
_BYTECODE_RATIO = 1


def compose_python(archive: PythonArchive, project: Project) -> tuple[Spec, ...]:
    """Return the layer of the files, and with ``bytecode`` that of the modules' bytecode, from the lock alone."""
    return tuple(_compose(archive, project, bytecode) for bytecode in (False, True)[: 2 if project.bytecode else 1])


def _compose(archive: PythonArchive, project: Project, bytecode: bool) -> Spec:
    recipe, key = make_recipe(
        Kind.PYTHON,
        folder=STANDALONE,
        release=archive.release,
        archive=archive.sha256.hex,
        without=EXCLUDE,
        bytecode=bytecode,
        **project.stored,
    )
    what = "bytecode of Python" if bytecode else "Python"
    return Spec(
        name=f"{STANDALONE} (bytecode)" if bytecode else STANDALONE,  # all stages share one
        kind=Kind.PYTHON,
        recipe=recipe,
        key=key,
        work=PackPython(archive=archive, folder=STANDALONE, bytecode=bytecode),
        history=f"{what} {archive.release} of python-build-standalone",
        weight=archive.size * (_BYTECODE_RATIO if bytecode else _UNPACK_RATIO),
        rate=0.01,
    )
