"""A small project with one of everything, composed from memory: no disk, no program, no network."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit.declare.containerfile_root import (
    ContainerfileInputs,
    ContainerfileRoot,
    find_containerfile_inputs,
)
from buildkit.declare.graph import Graph, make_graph
from buildkit.declare.project import Project, parse_project
from buildkit.declare.stage import Copy, Stage
from buildkit.declare.stage_file import parse_stage
from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.layers.tar.member import Compression
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import AptPin, Artifact, Model, ModelFile, Pin, PinnedImage, PythonArchive
from buildkit.oci.blob import Blob
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.spec import Kind, PackPrefix, Spec, Tree, TreeFile

MB = 1 << 20


def blob_of(name: str) -> Blob:
    data = name.encode()
    return Blob(digest=Digest.of(data), diff_id=DiffId.of(data), size=1, unpacked=1, compression=Compression.ZSTD)


def spec_of(name: str) -> Spec:
    """The definition of a layer that holds nothing."""
    key = Key.of(name.encode())
    return Spec(name=name, kind=Kind.WHEELS, recipe="{}", key=key, work=PackPrefix(), history=f"of {name}")


def wheel(name: str, version: str = "1.0", size: int = 1000) -> Artifact:
    file = f"{name}-{version}-py3-none-any.whl"
    return Artifact(name=name, version=version, file=file, sha256=FileHash.of(file.encode()), size=size)


def sdist(name: str, version: str = "1.0") -> Artifact:
    file = f"{name}-{version}.tar.gz"
    return Artifact(name=name, version=version, file=file, sha256=FileHash.of(file.encode()), size=500)


def tree_file(path: str, content: str = "", **more: object) -> TreeFile:
    return replace(TreeFile(path=path, sha256=FileHash.of((content or path).encode()), size=100), **more)  # type: ignore[arg-type]


def python_archive(version: str = "3.13.9", arch: str = "x86_64") -> PythonArchive:
    file = f"cpython-{version}%2B20261110-{arch}-unknown-linux-gnu-install_only_stripped.tar.gz"
    return PythonArchive(
        version=version, build="20261110", arch=arch, sha256=FileHash.of(file.encode()), size=30 * MB,
        url=f"https://github.com/astral-sh/python-build-standalone/releases/download/20261110/{file}",
    )  # fmt: skip


def model_file(path: str, size: int = 1000, content: str = "") -> ModelFile:
    return ModelFile(path=path, sha256=FileHash.of((content or path).encode()), size=size, source=path)


@dataclass
class FakeCheckout:
    """Answers from tables."""

    wheels: dict[str, tuple[Artifact, ...]] = field(default_factory=dict)
    pinned: dict[str, tuple[Pin, ...]] = field(default_factory=dict)
    apts: dict[str, tuple[AptPin, ...]] = field(default_factory=dict)
    locked: dict[str, tuple[Model, ...]] = field(default_factory=dict)
    trees: dict[str, tuple[TreeFile, ...]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    archives: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    interpreter: PythonArchive = field(default_factory=python_archive)

    def artifacts(self, lock: str) -> tuple[Artifact, ...]:
        return self.wheels[lock]

    def pins(self, lock: str) -> tuple[Pin, ...]:
        return self.pinned.get(lock, ())

    def apt(self, packages: str) -> tuple[AptPin, ...]:
        return self.apts[packages]

    def image(self, name: str) -> PinnedImage:
        bare, _, digest = name.partition("@")
        pinned = self.images.get(name, name if digest else "")
        return PinnedImage(ref=f"{bare}@{pinned.partition('@')[2]}", pinned=pinned)

    def sources(self, packages: str) -> str:
        return self.archives.get(packages, "")

    def models(self, lock: str) -> tuple[Model, ...]:
        return self.locked[lock]

    def containerfile(self, root: ContainerfileRoot) -> tuple[str, ContainerfileInputs, Tree]:
        text = self.texts[root.file]
        context = Tree(path=root.context, files=self.trees.get(root.context, ()))
        return text, find_containerfile_inputs(text, root), context

    def python(self) -> PythonArchive:
        return self.interpreter

    def tree(self, path: str) -> Tree:
        return Tree(path=path, files=self.trees[path])

    def copied(self, stage: Stage, copy: Copy) -> Tree:
        return self.tree(posixpath.normpath(posixpath.join(stage.folder, copy.source)))


STAGES = {
    "base": """
        summary = "base"
        [root]
        suite = "trixie"
        packages = "base.apt"
        exclude = ["usr/share/man/**"]
        [[root.user]]
        name = "ml"
        uid = 1000
        """,
    "builder": """
        summary = "builder"
        from = "base"
        [apt]
        packages = "builder.apt"
        [[run]]
        name = "prepare"
        script = "true"
        env = { A = "1" }
        mount = [{ source = "tools", target = "/mnt" }]
        [config]
        env = { CFLAGS = "-O2" }
        """,
    "deps": """
        summary = "deps"
        [wheels]
        locks = ["deps.txt"]
        """,
    "weights": """
        summary = "weights"
        [models]
        lock = "models.lock"
        """,
    "runtime": """
        summary = "runtime"
        from = "base"
        include = ["deps", "weights"]
        [[copy]]
        source = "app"
        target = "/app"
        [[copy]]
        source = "conf"
        target = "/etc/app"
        [config]
        user = "ml"
        cmd = ["run"]
        env = { MODE = "x" }
        """,
}


def base_checkout() -> FakeCheckout:
    model = Model(
        name="vad",
        version="3",
        source=RepoSource(path="m"),
        license="MIT",
        files=(model_file("big.bin", 9 * MB), model_file("a.json"), model_file("b.json")),
    )
    return FakeCheckout(
        wheels={"deps.txt": (wheel("heavy", size=5 * MB), wheel("light"), wheel("thin"), sdist("native"))},
        apts={
            "base.apt": (AptPin(name="libc6", version="2.41"), AptPin(name="python3.13", version="3.13.5")),
            "builder.apt": (AptPin(name="gcc", version="14"),),
        },
        locked={"models.lock": (model,)},
        trees={
            "stages/runtime/app": (tree_file("main.py"), tree_file("run.sh", executable=True)),
            "stages/runtime/conf": (tree_file("x.ini"),),
            "tools": (tree_file("t.sh"),),
        },
    )


def make_graph_of(stages: dict[str, str]) -> Graph:
    return make_graph({n: parse_stage(text, name=n, file=f"stages/{n}/stage.toml") for n, text in stages.items()})


def composer(
    stages: dict[str, str] | None = None, checkout: FakeCheckout | None = None, settings: str = ""
) -> Composer:
    arch_line = "" if "arch" in settings else "arch = 'x86_64'"
    text = f"[tool.buildkit]\nname = 'p'\n{arch_line}\n{settings}"
    project: Project = parse_project(text, Path("/nowhere"))
    return Composer(project, make_graph_of(stages or STAGES), checkout or base_checkout())


def keys(composition: Composition) -> dict[str, str]:
    found = {spec.name: spec.key.hex for spec in composition.specs}
    assert len(found) == len(composition.specs), "two layers have one name"
    return found
