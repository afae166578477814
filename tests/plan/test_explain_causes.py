"""Causes for building a layer: the sentence of every kind, and a cause for every difference."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from planfakes import STAGES, FakeCheckout, base_checkout, composer, model_file, python_archive, sdist, tree_file, wheel

from buildkit.digest import Key
from buildkit.locks.model_source import HubSource
from buildkit.locks.pins import AptPin, Artifact
from buildkit.plan.compose import Composer, Composition
from buildkit.plan.explain.causes import Cause, CauseKind, format_cause, format_causes
from buildkit.plan.explain.comparison import PastRecipe
from buildkit.plan.explain.find_causes import find_causes
from buildkit.plan.packing import bin_of
from buildkit.plan.spec import PackWheels, Spec

BIN = {name: f"deps/bin-{bin_of(name, 8)}" for name in ("light", "thin", "native", "minor", "fast")}
AT = 1_795_000_000.0  # 2026-11-18 at noon


@dataclass
class MemoryHistory:
    """A history in memory."""

    last: dict[str, str] = field(default_factory=dict)
    pasts: dict[str, PastRecipe] = field(default_factory=dict)
    fates: dict[str, Cause] = field(default_factory=dict)

    def find(self, key: str) -> PastRecipe | None:
        return self.pasts.get(key)

    def fate(self, key: Key) -> Cause | None:
        return self.fates.get(key.hex)


@dataclass
class EchoLocations:
    """Locations that echo the names in the request."""

    composer: Composer
    composition: Composition

    def stage(self, name: str) -> str:
        return f"stages/{name}/stage.toml"

    def pin(self, stage: str, name: str, path: str = "") -> str:
        return f"{stage}.txt:{path or name}"

    def wheel_layer(self, stage: str, name: str) -> str:
        works = {spec.name: spec.work for spec in self.composition.layers if spec.name.startswith(f"{stage}/")}
        held = {n: w.wheels for n, w in works.items() if isinstance(w, PackWheels)}
        return next((layer for layer, wheels in held.items() if any(w.name == name for w in wheels)), "")

    def package(self, packages: str, name: str) -> str:
        return f"{packages}.lock:{name}"

    def model_file(self, stage: str, model: str, path: str) -> str:
        return f"{stage}.lock:{model}/{path}"

    def compiler(self) -> tuple[Spec, ...]:
        return self.composer.compiler

    def builder(self) -> tuple[Spec, ...]:
        return self.composer.builder.specs


def build_history(before: Composer, stage: str) -> MemoryHistory:
    """Return the history after a build of a stage: its layers, its builder's, and the wheels it compiled."""
    made = before.compose(stage)
    history = MemoryHistory(last={spec.name: spec.recipe for spec in made.specs})
    tools = (*before.builder.specs, *before.compiler) if stage == "runtime" else ()
    for spec in (*made.specs, *tools):
        history.pasts[spec.key.hex] = PastRecipe(name=spec.name, recipe=spec.recipe)
        for item in spec.work.compiled if isinstance(spec.work, PackWheels) else ():
            history.pasts[item.key.hex] = PastRecipe(name="", recipe=item.recipe)
    return history


def explain(history: MemoryHistory, after: Composer, stage: str) -> dict[str, tuple[Cause, ...]]:
    """Return the causes for every layer that changed."""
    made = after.compose(stage)
    new = [spec for spec in made.specs if spec.recipe != history.last.get(spec.name)]
    places = EchoLocations(after, made)
    return {spec.name: find_causes(spec, history.last.get(spec.name), history, places) for spec in new}


def between(before: Composer, after: Composer, stage: str = "runtime") -> dict[str, tuple[Cause, ...]]:
    return explain(build_history(before, stage), after, stage)


def edited(
    *edits: Callable[[FakeCheckout], None], stages: dict[str, str] | None = None, settings: str = ""
) -> Composer:
    checkout = base_checkout()
    for edit in edits:
        edit(checkout)
    return composer(stages, checkout, settings)


def wheels(*found: Artifact) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.wheels.update({"deps.txt": found})


def apt(name: str, **pins: str) -> Callable[[FakeCheckout], None]:
    found = tuple(AptPin(name=pin.replace("_", "."), version=version) for pin, version in pins.items())
    return lambda checkout: checkout.apts.update({f"{name}.apt": found})


def tree(path: str, *files: Any) -> Callable[[FakeCheckout], None]:
    return lambda checkout: checkout.trees.update({path: files})


def model(*files: Any) -> Callable[[FakeCheckout], None]:
    def edit(checkout: FakeCheckout) -> None:
        checkout.locked["models.lock"] = (replace(checkout.locked["models.lock"][0], files=files),)

    return edit


def staged(stage: str, old: str, new: str) -> dict[str, str]:
    assert STAGES[stage].count(old) == 1
    return STAGES | {stage: STAGES[stage].replace(old, new)}


def with_format(number: int) -> Callable[[str], str]:
    return lambda recipe: json.dumps({**json.loads(recipe), "format": number})


HEAVY, LIGHT, THIN, NATIVE = base_checkout().wheels["deps.txt"]
MAIN, RUN = base_checkout().trees["stages/runtime/app"]
APP = "stages/runtime/app"
LINK = replace(MAIN, link="a.py", sha256=MAIN.sha256)


def in_hub_cache(digit: str, *files: Any) -> Callable[[FakeCheckout], None]:
    """A model in a cache of a hub, at a commit of that digit."""

    def change(checkout: FakeCheckout) -> None:
        changes = {"source": HubSource(url="https://huggingface.co/o/n"), "layout": "hf-cache", "version": digit * 40}
        model = checkout.locked["models.lock"][0]
        checkout.locked["models.lock"] = (replace(model, files=files or model.files, **changes),)

    return change


BIG, A, B = base_checkout().locked["models.lock"][0].files
FAST = Artifact(name="fast", version="1.0", path="./libs/fast")
OTHER_RUN = '[[run]]\nname = "other"\nscript = "echo"\n[config]'
TWO_MOUNTS = 'mount = [{ source = "tools", target = "/mnt" }, { source = "more", target = "/srv" }]'
TWO_TURNED = 'mount = [{ source = "more", target = "/srv" }, { source = "tools", target = "/mnt" }]'
MOUNT = 'mount = [{ source = "tools", target = "/mnt" }]'
MORE = tree("more", tree_file("m.sh"))
FAST_TREE = tree("./libs/fast", tree_file("src/fast.c"), tree_file("pyproject.toml"))
STEP_PYTHON = "bytecode-root = 'builder'"
IMAGE = 'summary = "base"\n[root]\nimage = "docker.io/library/python:3.12@sha256:' + "a" * 64 + '"'
NO_PYTHON = apt("base", libc6="2.41")


@dataclass(frozen=True)
class Change:
    """Two checkouts, and the expected cause for one layer."""

    layer: str
    expected: Cause
    text: str
    before: Callable[[], Composer] = edited
    after: Callable[[], Composer] = edited
    stage: str = "runtime"
    more: int = 0


CHANGES = (
    # wheels
    Change(
        "deps/heavy",
        Cause(CauseKind.PIN_CHANGED, name="heavy", before="1.0", after="2.0", where="deps.txt:heavy"),
        "heavy 1.0 → 2.0",
        after=lambda: edited(wheels(wheel("heavy", "2.0", 5 << 20), LIGHT, THIN, NATIVE)),
    ),
    Change(
        BIN["minor"],
        Cause(CauseKind.PIN_ADDED, name="minor", version="1.0", where="deps.txt:minor"),
        "minor 1.0 added",
        after=lambda: edited(wheels(HEAVY, LIGHT, THIN, NATIVE, wheel("minor"))),
    ),
    Change(
        "deps/whale",  # a layer of its own
        Cause(CauseKind.PIN_ADDED, name="whale", version="1.0", where="deps.txt:whale"),
        "whale 1.0 added",
        after=lambda: edited(wheels(HEAVY, LIGHT, THIN, NATIVE, wheel("whale", size=5 << 20))),
    ),
    Change(
        BIN["minor"],
        Cause(CauseKind.PIN_REMOVED, name="minor", version="1.0", where="deps.txt:minor"),
        "minor 1.0 removed",
        before=lambda: edited(wheels(HEAVY, LIGHT, THIN, NATIVE, wheel("minor"))),
    ),
    Change(
        BIN["light"],
        Cause(
            CauseKind.ARTIFACT_CHANGED,
            name="light",
            version="1.0",
            before="a wheel",
            after="a wheel",
            where="deps.txt:light",
        ),
        "light 1.0: different file",
        after=lambda: edited(wheels(HEAVY, replace(LIGHT, sha256=THIN.sha256), THIN, NATIVE)),
    ),
    Change(
        BIN["light"],
        Cause(
            CauseKind.ARTIFACT_CHANGED,
            name="light",
            version="1.0",
            before="a wheel",
            after="compiled here",
            where="deps.txt:light",
        ),
        "light 1.0: a wheel → compiled here",
        after=lambda: edited(wheels(HEAVY, sdist("light"), THIN, NATIVE)),
    ),
    Change(
        "deps/light",
        Cause(
            CauseKind.WHEEL_MOVED,
            name="light",
            version="1.0",
            before=BIN["light"],
            after="deps/light",
            where="pyproject.toml: [tool.buildkit] heavy",
        ),
        f"light 1.0 moved from {BIN['light']} to deps/light",
        before=lambda: edited(wheels(HEAVY, LIGHT, wheel("minor"))),
        after=lambda: edited(wheels(HEAVY, LIGHT, wheel("minor")), settings="heavy = 1000"),
    ),
    Change(
        BIN["light"],
        Cause(
            CauseKind.WHEEL_MOVED,
            name="light",
            version="1.0",
            before=BIN["light"],
            after="deps/light",
            where="pyproject.toml: [tool.buildkit] heavy",
        ),
        f"light 1.0 moved from {BIN['light']} to deps/light",
        before=lambda: edited(wheels(wheel("light", size=1000), wheel("minor", size=10)), settings="heavy = 2000"),
        after=lambda: edited(wheels(wheel("light", size=1000), wheel("minor", size=10)), settings="heavy = 1000"),
    ),
    Change(
        f"deps/bin-{bin_of('light', 3)}",
        Cause(
            CauseKind.WHEEL_MOVED,
            name="light",
            version="1.0",
            before=BIN["light"],
            after=f"deps/bin-{bin_of('light', 3)}",
            where="pyproject.toml: [tool.buildkit] bins",
        ),
        f"light 1.0 moved from {BIN['light']} to deps/bin-{bin_of('light', 3)}",
        before=lambda: edited(wheels(LIGHT)),
        after=lambda: edited(wheels(LIGHT), settings="bins = 3"),
    ),
    # what is compiled
    Change(
        BIN["native"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="native",
            version="1.0",
            where="builder.apt.lock:gcc",
            because=Cause(
                CauseKind.PACKAGE_CHANGED,
                name="gcc",
                before="14",
                after="15",
                stage="builder",
                where="builder.apt.lock:gcc",
            ),
        ),
        "native recompiled: gcc 14 → 15 in builder",
        after=lambda: edited(apt("builder", gcc="15")),
    ),
    Change(
        BIN["native"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="native",
            version="1.0",
            where="deps.txt:native",
            because=Cause(CauseKind.SOURCE_CHANGED, name="native-1.0.tar.gz", where="deps.txt:native"),
        ),
        "native recompiled: its sdist `native-1.0.tar.gz` is a different file",
        after=lambda: edited(wheels(HEAVY, LIGHT, THIN, replace(NATIVE, sha256=THIN.sha256))),
    ),
    Change(
        BIN["native"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="native",
            version="1.0",
            where="stages/builder/stage.toml: config.env",
            because=Cause(
                CauseKind.SETTING_CHANGED,
                key="env CFLAGS",
                before="-O2",
                after="-O3",
                of="the stage builder",
                where="stages/builder/stage.toml: config.env",
            ),
        ),
        "native recompiled: env CFLAGS of the stage builder -O2 → -O3",
        after=lambda: edited(stages=staged("builder", '"-O2"', '"-O3"')),
    ),
    Change(
        BIN["native"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="native",
            version="1.0",
            where="stages/builder/stage.toml: run",
            because=Cause(CauseKind.STEP_ADDED, step="other", where="stages/builder/stage.toml: run"),
        ),
        "native recompiled: step other added",
        after=lambda: edited(stages=staged("builder", "[config]", OTHER_RUN)),
    ),
    Change(
        BIN["fast"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="fast",
            version="1.0",
            where="libs/fast/src/fast.c",
            because=Cause(CauseKind.FILE_CHANGED, path="libs/fast/src/fast.c", where="libs/fast/src/fast.c"),
        ),
        "fast recompiled: libs/fast/src/fast.c changed",
        before=lambda: edited(wheels(FAST), FAST_TREE),
        after=lambda: edited(
            wheels(FAST), tree("./libs/fast", tree_file("src/fast.c", "new"), tree_file("pyproject.toml"))
        ),
    ),
    Change(
        BIN["native"],
        Cause(
            CauseKind.COMPILED_ANEW,
            name="native",
            version="1.0",
            where="pyproject.toml: [tool.buildkit] prefix",
            because=Cause(
                CauseKind.SETTING_CHANGED,
                key="prefix",
                before="/opt/venv",
                after="/opt/v",
                where="pyproject.toml: [tool.buildkit] prefix",
            ),
        ),
        "native recompiled: prefix /opt/venv → /opt/v",
        after=lambda: edited(settings="prefix = '/opt/v'"),
        more=1,
    ),
    # roots
    Change(
        "base/root",
        Cause(
            CauseKind.PACKAGE_CHANGED,
            name="libc6",
            before="2.41",
            after="2.42",
            stage="base",
            where="base.apt.lock:libc6",
        ),
        "libc6 2.41 → 2.42 in base",
        after=lambda: edited(apt("base", libc6="2.42", python3_13="3.13.5")),
    ),
    Change(
        "base/root",
        Cause(CauseKind.PACKAGE_ADDED, name="zlib", version="1", stage="base", where="base.apt.lock:zlib"),
        "zlib 1 added in base",
        after=lambda: edited(apt("base", libc6="2.41", python3_13="3.13.5", zlib="1")),
    ),
    Change(
        "base/root",
        Cause(CauseKind.PACKAGE_REMOVED, name="libc6", version="2.41", stage="base", where="base.apt.lock:libc6"),
        "libc6 2.41 removed in base",
        after=lambda: edited(apt("base", python3_13="3.13.5")),
    ),
    Change(
        "builder/apt builder.apt",
        Cause(
            CauseKind.PACKAGE_CHANGED,
            name="gcc",
            before="14",
            after="15",
            stage="builder",
            where="builder.apt.lock:gcc",
        ),
        "gcc 14 → 15 in builder",
        after=lambda: edited(apt("builder", gcc="15")),
        stage="builder",
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.INTERPRETER_CHANGED,
            stage="base",
            before="3.13.5",
            after="3.13.7",
            where="base.apt.lock:python3.13",
        ),
        "python 3.13.5 → 3.13.7 in base",
        before=lambda: edited(apt("base", libpython3_13="3.13.5-2", python3_13="3.13.5-2")),
        after=lambda: edited(apt("base", libpython3_13="3.13.7-1", python3_13="3.13.7-1")),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.INTERPRETER_CHANGED,
            stage="base",
            before="3.13.5",
            after="3.13.7",
            where="base.apt.lock:python3.13",
        ),
        "python 3.13.5 → 3.13.7 in base",
        after=lambda: edited(apt("base", libc6="2.41", python3_13="3.13.7")),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.INTERPRETER_CHANGED,
            stage="base",
            before="3.13.5-2",
            after="3.13.5-3",
            where="base.apt.lock:python3.13",
        ),
        "python 3.13.5-2 → 3.13.5-3 in base",
        before=lambda: edited(apt("base", python3_13="3.13.5-2")),
        after=lambda: edited(apt("base", python3_13="3.13.5-3")),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.INTERPRETER_CHANGED,
            stage="base",
            before="3.13.5",
            after="3.14.0",
            where="base.apt.lock:python3.14",
        ),
        "python 3.13.5 → 3.14.0 in base",
        after=lambda: edited(apt("base", libc6="2.41", python3_14="3.14.0")),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.INTERPRETER_CHANGED,
            stage="base",
            where="stages/builder/stage.toml: run.script",
            because=Cause(
                CauseKind.SETTING_CHANGED,
                key="script",
                before="true",
                after="false",
                of="step prepare",
                where="stages/builder/stage.toml: run.script",
            ),
        ),
        "the root that compiles bytecode: script of step prepare true → false",
        before=lambda: edited(NO_PYTHON, settings=STEP_PYTHON),
        after=lambda: edited(NO_PYTHON, settings=STEP_PYTHON, stages=staged("builder", '"true"', '"false"')),
    ),
    Change(
        "base/image",
        Cause(
            CauseKind.IMAGE_CHANGED,
            before="docker.io/library/python:3.12@sha256:" + "a" * 64,
            after="docker.io/library/python:3.12@sha256:" + "b" * 64,
            where="stages/base/stage.toml: root.image",
        ),
        "image docker.io/library/python:3.12: new digest",
        before=lambda: edited(stages={"base": IMAGE}),
        after=lambda: edited(stages={"base": IMAGE.replace("a" * 64, "b" * 64)}),
        stage="base",
    ),
    Change(
        "base/image",
        Cause(
            CauseKind.IMAGE_CHANGED,
            before="docker.io/library/python:3.12@sha256:" + "a" * 64,
            after="docker.io/library/python:3.13@sha256:" + "b" * 64,
            where="stages/base/stage.toml: root.image",
        ),
        "image docker.io/library/python:3.12 → docker.io/library/python:3.13",
        before=lambda: edited(stages={"base": IMAGE}),
        after=lambda: edited(stages={"base": IMAGE.replace("3.12", "3.13").replace("a" * 64, "b" * 64)}),
        stage="base",
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.ROOT_BELOW_CHANGED,
            layer="base/root",
            where="base.apt.lock:libc6",
            because=Cause(
                CauseKind.PACKAGE_CHANGED,
                name="libc6",
                before="2.41",
                after="2.42",
                stage="base",
                where="base.apt.lock:libc6",
            ),
        ),
        "a layer below: libc6 2.41 → 2.42 in base",
        after=lambda: edited(apt("base", libc6="2.42", python3_13="3.13.5")),
        stage="builder",
    ),
    Change(
        "builder/other",
        Cause(
            CauseKind.ROOT_BELOW_CHANGED,
            layer="builder/prepare",
            where="stages/builder/stage.toml: run",
            because=Cause(CauseKind.STEP_REMOVED, step="prepare", where="stages/builder/stage.toml: run"),
        ),
        "a layer below: step prepare removed",
        before=lambda: edited(stages=staged("builder", "[config]", OTHER_RUN)),
        after=lambda: edited(
            stages=STAGES | {"builder": 'summary = "b"\nfrom = "base"\n[apt]\npackages = "builder.apt"\n' + OTHER_RUN}
        ),
        stage="builder",
    ),
    # settings
    Change(
        "base/root",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="suite",
            before="trixie",
            after="forky",
            where="stages/base/stage.toml: root.suite",
        ),
        "suite trixie → forky",
        after=lambda: edited(stages=staged("base", '"trixie"', '"forky"')),
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="drop-setuid",
            before="false",
            after="true",
            where="stages/base/stage.toml: root.drop-setuid",
        ),
        "drop-setuid false → true",
        after=lambda: edited(stages=staged("base", "[root]", "[root]\ndrop-setuid = true")),
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="arch",
            before="amd64",
            after="arm64",
            where="pyproject.toml: [tool.buildkit] arch",
        ),
        "arch amd64 → arm64",
        after=lambda: edited(settings="arch = 'aarch64'"),
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="uid",
            before="1000",
            after="7",
            of="user ml",
            where="stages/base/stage.toml: root.user",
        ),
        "uid of user ml 1000 → 7",
        after=lambda: edited(stages=staged("base", "uid = 1000", "uid = 7")),
    ),
    Change(
        "base/root",
        Cause(CauseKind.ITEMS_CHANGED, key="users", added=("sam",), where="stages/base/stage.toml: root.user"),
        "users: sam added",
        after=lambda: edited(stages=staged("base", "uid = 1000", 'uid = 1000\n[[root.user]]\nname = "sam"\nuid = 7')),
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.ITEMS_CHANGED,
            key="exclude",
            added=("usr/share/doc/**",),
            removed=("usr/share/man/**",),
            where="stages/base/stage.toml: root.exclude",
        ),
        "exclude: usr/share/doc/** added, usr/share/man/** removed",
        after=lambda: edited(stages=staged("base", "man", "doc")),
    ),
    Change(
        "base/root",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="bytecode",
            before="true",
            after="false",
            where="pyproject.toml: [tool.buildkit] bytecode",
        ),
        "bytecode true → false",
        after=lambda: edited(settings="bytecode = false"),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="bytecode",
            before="false",
            after="true",
            where="pyproject.toml: [tool.buildkit] bytecode",
        ),
        "bytecode false → true",
        before=lambda: edited(settings="bytecode = false"),
    ),
    Change(
        "deps/heavy",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="prefix",
            before="/opt/venv",
            after="/opt/v",
            where="pyproject.toml: [tool.buildkit] prefix",
        ),
        "prefix /opt/venv → /opt/v",
        after=lambda: edited(settings="prefix = '/opt/v'"),
    ),
    Change(
        "/opt/v",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="prefix",
            before="/opt/venv",
            after="/opt/v",
            where="pyproject.toml: [tool.buildkit] prefix",
        ),
        "prefix /opt/venv → /opt/v",
        after=lambda: edited(settings="prefix = '/opt/v'"),
    ),
    Change(
        "/opt/venv",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="python",
            before="3.13",
            after="3.13.9",
            where="pyproject.toml: [tool.buildkit] python",
        ),
        "python 3.13 → 3.13.9",
        after=lambda: edited(settings="python = '3.13.9'"),
    ),
    Change(
        "runtime/app",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="target",
            before="/app",
            after="/srv",
            where="stages/runtime/stage.toml: copy.target",
        ),
        "target /app → /srv",
        after=lambda: edited(stages=staged("runtime", '"/app"', '"/srv"')),
    ),
    Change(
        "weights/vad",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="target",
            before="/models/vad",
            after="/m/vad",
            where="stages/weights/stage.toml: models.target",
        ),
        "target /models/vad → /m/vad",
        after=lambda: edited(stages=staged("weights", "[models]", '[models]\ntarget = "/m"')),
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="script",
            before="",
            after="",
            of="step prepare",
            where="stages/builder/stage.toml: run.script",
        ),
        "script of step prepare changed",
        after=lambda: edited(stages=staged("builder", '"true"', '"' + "echo a; " * 9 + '"')),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="command",
            before="true",
            after="make all",
            of="step prepare",
            where="stages/builder/stage.toml: run.command",
        ),
        "command of step prepare true → make all",
        after=lambda: edited(stages=staged("builder", 'script = "true"', 'command = ["make", "all"]')),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="network",
            before="false",
            after="true",
            of="step prepare",
            where="stages/builder/stage.toml: run.network",
        ),
        "network of step prepare false → true",
        after=lambda: edited(stages=staged("builder", 'script = "true"', 'script = "true"\nnetwork = true')),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="env A",
            before="1",
            after="2",
            of="step prepare",
            where="stages/builder/stage.toml: run.env",
        ),
        "env A of step prepare 1 → 2",
        after=lambda: edited(stages=staged("builder", 'A = "1"', 'A = "2"')),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(
            CauseKind.ITEMS_CHANGED,
            key="env",
            added=("B",),
            removed=("A",),
            of="step prepare",
            where="stages/builder/stage.toml: run.env",
        ),
        "env of step prepare: B added, A removed",
        after=lambda: edited(stages=staged("builder", 'A = "1"', 'B = "1"')),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(CauseKind.MOUNT_ADDED, target="/srv", source="more", where="stages/builder/stage.toml: run.mount"),
        "mount more at /srv added",
        after=lambda: edited(MORE, stages=staged("builder", MOUNT, TWO_MOUNTS)),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(CauseKind.MOUNT_REMOVED, target="/srv", where="stages/builder/stage.toml: run.mount"),
        "mount at /srv removed",
        before=lambda: edited(MORE, stages=staged("builder", MOUNT, TWO_MOUNTS)),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(CauseKind.MOUNTS_REORDERED, where="stages/builder/stage.toml: run.mount"),
        "mounts reordered",
        before=lambda: edited(MORE, stages=staged("builder", MOUNT, TWO_MOUNTS)),
        after=lambda: edited(MORE, stages=staged("builder", MOUNT, TWO_TURNED)),
        stage="builder",
    ),
    Change(
        "builder/prepare",
        Cause(CauseKind.FILE_CHANGED, path="tools/t.sh", where="tools/t.sh"),
        "tools/t.sh changed",
        after=lambda: edited(tree("tools", tree_file("t.sh", "new"))),
        stage="builder",
    ),
    Change(
        "runtime/app",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="compression",
            before="zstd",
            after="gzip",
            where="pyproject.toml: [tool.buildkit] compression",
        ),
        "compression zstd → gzip",
        after=lambda: edited(settings="compression = 'gzip'"),
    ),
    # files
    Change(
        "runtime/app",
        Cause(CauseKind.FILE_CHANGED, path=f"{APP}/main.py", where=f"{APP}/main.py"),
        f"{APP}/main.py changed",
        after=lambda: edited(tree(APP, tree_file("main.py", "new"), RUN)),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.FILE_CHANGED, path=APP, where=APP),  # a tree of one file has no path below it
        f"{APP} changed",
        before=lambda: edited(tree(APP, tree_file("."))),
        after=lambda: edited(tree(APP, tree_file(".", "new"))),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.FILE_ADDED, path=f"{APP}/a.py", where=f"{APP}/a.py"),
        f"{APP}/a.py added",
        after=lambda: edited(tree(APP, MAIN, RUN, tree_file("a.py"))),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.FILE_REMOVED, path=f"{APP}/run.sh", where=f"{APP}/run.sh"),
        f"{APP}/run.sh removed",
        after=lambda: edited(tree(APP, MAIN)),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.MODE_CHANGED, path=f"{APP}/main.py", before="file", after="executable", where=f"{APP}/main.py"),
        f"{APP}/main.py: file → executable",
        after=lambda: edited(tree(APP, replace(MAIN, executable=True), RUN)),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.MODE_CHANGED, path=f"{APP}/main.py", before="file", after="link", where=f"{APP}/main.py"),
        f"{APP}/main.py: file → link",
        after=lambda: edited(tree(APP, LINK, RUN)),
    ),
    Change(
        "runtime/app",
        Cause(CauseKind.LINK_CHANGED, path=f"{APP}/main.py", before="a.py", after="b.py", where=f"{APP}/main.py"),
        f"{APP}/main.py: link to a.py → link to b.py",
        before=lambda: edited(tree(APP, LINK, RUN)),
        after=lambda: edited(tree(APP, replace(LINK, link="b.py"), RUN)),
    ),
    # models
    Change(
        "weights/vad/big.bin",
        Cause(CauseKind.MODEL_FILE_CHANGED, model="vad", path="big.bin", where="weights.lock:vad/big.bin"),
        "big.bin of model vad changed",
        after=lambda: edited(model(model_file("big.bin", 9 << 20, "new"), A, B)),
    ),
    Change(
        "weights/vad/a.json",  # it grew, and has a layer of its own now
        Cause(CauseKind.MODEL_FILE_CHANGED, model="vad", path="a.json", where="weights.lock:vad/a.json"),
        "a.json of model vad changed",
        after=lambda: edited(model(BIG, model_file("a.json", 9 << 20, "new"), B)),
    ),
    Change(
        "weights/vad",  # what it left
        Cause(CauseKind.MODEL_FILE_CHANGED, model="vad", path="a.json", where="weights.lock:vad/a.json"),
        "a.json of model vad changed",
        after=lambda: edited(model(BIG, model_file("a.json", 9 << 20, "new"), B)),
    ),
    Change(
        "weights/vad",
        Cause(
            CauseKind.SETTING_CHANGED,
            key="commit",
            before="a" * 10,
            after="b" * 10,
            where="stages/weights/stage.toml: models.lock",
        ),
        "commit aaaaaaaaaa → bbbbbbbbbb",
        before=lambda: edited(in_hub_cache("a")),
        after=lambda: edited(in_hub_cache("b")),
    ),
    Change(
        "weights/vad/big.bin",  # a blob, named by its hash
        Cause(CauseKind.MODEL_FILE_ADDED, model="vad", path="big.bin", where="weights.lock:vad/big.bin"),
        "big.bin of model vad added",
        before=lambda: edited(in_hub_cache("a", A, B)),
        after=lambda: edited(in_hub_cache("a")),
    ),
    Change(
        "weights/vad/c.bin",
        Cause(CauseKind.MODEL_FILE_ADDED, model="vad", path="c.bin", where="weights.lock:vad/c.bin"),
        "c.bin of model vad added",
        after=lambda: edited(model(BIG, A, B, model_file("c.bin", 9 << 20))),
    ),
    Change(
        "weights/vad",
        Cause(CauseKind.MODEL_FILE_REMOVED, model="vad", path="b.json", where="weights.lock:vad/b.json"),
        "b.json of model vad removed",
        after=lambda: edited(model(BIG, A)),
    ),
    # layers
    Change(
        "runtime/more",
        Cause(CauseKind.NEW_LAYER, where="stages/runtime/stage.toml: copy"),
        "new layer",
        after=lambda: edited(
            tree("stages/runtime/more", MAIN),
            stages=staged("runtime", "[config]", '[[copy]]\nsource = "more"\ntarget = "/more"\n[config]'),
        ),
    ),
)


@pytest.mark.parametrize("change", CHANGES, ids=[f"{c.layer}: {c.text}" for c in CHANGES])
def test_change_has_its_cause(change: Change) -> None:
    found = between(change.before(), change.after(), change.stage)
    assert change.expected in found[change.layer]
    assert str(change.expected) == change.text
    assert len(found[change.layer]) == 1 + change.more, [str(cause) for cause in found[change.layer]]


ONE = composer().compose("runtime").specs[-1]
CHECKOUT_INDEPENDENT: dict[str, tuple[MemoryHistory, str | None, tuple[Cause, ...]]] = {
    "first build": (MemoryHistory(), None, (Cause(CauseKind.FIRST_BUILD),)),
    "packer format 0 → 2": (
        MemoryHistory(last={"x": "{}"}),
        with_format(0)(ONE.recipe),
        (Cause(CauseKind.FORMAT_CHANGED, before=0, after=2),),
    ),
    "kind of layer run → files": (
        MemoryHistory(last={"x": "{}"}),
        '{"format":1,"kind":"run"}',
        (Cause(CauseKind.KIND_CHANGED, before="run", after="files"),),
    ),
    "no longer in the cache": (MemoryHistory(last={"x": "{}"}), ONE.recipe, (Cause(CauseKind.FORGOTTEN),)),
    "it is only in the remote cache r.io/a, which is not used here": (
        MemoryHistory(last={"x": "{}"}, fates={ONE.key.hex: Cause(CauseKind.ONLY_SHARED, repository="r.io/a")}),
        ONE.recipe,
        (Cause(CauseKind.ONLY_SHARED, repository="r.io/a"),),
    ),
    "its blob is missing from the cache": (
        MemoryHistory(last={"x": "{}"}, fates={ONE.key.hex: Cause(CauseKind.BLOB_GONE)}),
        ONE.recipe,
        (Cause(CauseKind.BLOB_GONE),),
    ),
    "its row in the ledger was damaged": (
        MemoryHistory(last={"x": "{}"}, fates={ONE.key.hex: Cause(CauseKind.ROW_DAMAGED)}),
        ONE.recipe,
        (Cause(CauseKind.ROW_DAMAGED),),
    ),
    "its row in the ledger was damaged and removed on 2026-11-18: found by verify": (
        MemoryHistory(
            last={"x": "{}"}, fates={ONE.key.hex: Cause(CauseKind.ROW_DAMAGED, at=AT, why="found by verify")}
        ),
        ONE.recipe,
        (Cause(CauseKind.ROW_DAMAGED, at=AT, why="found by verify"),),
    ),
    "evicted by gc on 2026-11-18: not used for 40 days": (
        MemoryHistory(fates={ONE.key.hex: Cause(CauseKind.EVICTED, at=AT, why="not used for 40 days")}),
        None,
        (Cause(CauseKind.EVICTED, at=AT, why="not used for 40 days"),),
    ),
    "its blob was damaged and removed on 2026-11-18": (
        MemoryHistory(last={"x": "{}"}, fates={ONE.key.hex: Cause(CauseKind.DAMAGED, at=AT)}),
        ONE.recipe,
        (Cause(CauseKind.DAMAGED, at=AT),),
    ),
}


@pytest.mark.parametrize("text", CHECKOUT_INDEPENDENT)
def test_change_outside_the_checkout_has_its_cause(text: str) -> None:
    history, before, expected = CHECKOUT_INDEPENDENT[text]
    found = find_causes(ONE, before, history, EchoLocations(composer(), composer().compose("runtime")))
    assert found == expected
    assert format_causes(found) == text


def test_wheel_whose_own_format_changed_says_so() -> None:
    made = edited(wheels(HEAVY, LIGHT, THIN, NATIVE, wheel("pip", "26.3", 2 << 20)))
    history = build_history(made, "runtime")
    (spec,) = (spec for spec in made.compose("runtime").specs if spec.name == "deps/pip")
    before = json.loads(spec.recipe)
    del before["wheels"][0]["format"]
    found = find_causes(spec, json.dumps(before), history, EchoLocations(made, made.compose("runtime")))
    assert found == (Cause(CauseKind.FORMAT_CHANGED, before=1, after=2),)


def test_builder_with_unknown_layers_is_one_cause() -> None:
    history = build_history(composer(), "runtime")
    for spec in composer().builder.specs:
        del history.pasts[spec.key.hex]
    found = explain(history, edited(stages=staged("builder", '"true"', '"false"')), "runtime")
    builder = Cause(CauseKind.BUILDER_CHANGED, stage="builder", where="stages/builder/stage.toml")
    assert found[BIN["native"]] == (
        Cause(CauseKind.COMPILED_ANEW, name="native", version="1.0", because=builder, where=builder.where),
    )
    assert format_causes(found[BIN["native"]]) == (
        "native recompiled: stage `builder` changed (stages/builder/stage.toml)"
    )


def test_every_cause_is_found_by_a_test() -> None:
    def kinds_of(cause: Cause) -> set[CauseKind]:
        return {cause.kind} | (kinds_of(cause.because) if cause.because else set())

    tested = {CauseKind.BUILDER_CHANGED}.union(*(kinds_of(change.expected) for change in CHANGES))
    tested |= {cause.kind for _, _, expected in CHECKOUT_INDEPENDENT.values() for cause in expected}
    assert tested == set(CauseKind)


JSON_FIELDS = {
    "first-build": "",
    "new-layer": "",
    "kind-changed": "before after",
    "format-changed": "before after",
    "evicted": "at why",
    "damaged": "at why",
    "row-damaged": "at why",
    "only-shared": "repository",
    "blob-gone": "",
    "forgotten": "",
    "setting-changed": "key before after of",
    "items-changed": "key added removed of",
    "file-changed": "path",
    "file-added": "path",
    "file-removed": "path",
    "mode-changed": "path before after",
    "link-changed": "path before after",
    "model-file-changed": "model path",
    "model-file-added": "model path",
    "model-file-removed": "model path",
    "mount-added": "target source",
    "mount-removed": "target",
    "mounts-reordered": "",
    "pin-changed": "name before after",
    "pin-added": "name version",
    "pin-removed": "name version",
    "wheel-moved": "name version before after",
    "artifact-changed": "name version before after",
    "compiled-anew": "name version because",
    "source-changed": "name",
    "builder-changed": "stage",
    "package-changed": "name before after stage",
    "package-added": "name version stage",
    "package-removed": "name version stage",
    "interpreter-changed": "stage before after because",
    "image-changed": "before after",
    "step-added": "step",
    "step-removed": "step",
    "root-below-changed": "layer because",
}


@pytest.mark.parametrize("kind", CauseKind)
def test_json_of_each_kind_has_its_own_fields(kind: CauseKind) -> None:
    assert list(Cause(kind).as_json()) == ["cause", "text", "where", *JSON_FIELDS[kind].split()]


def test_names_of_causes_in_json_do_not_change() -> None:
    assert [str(kind) for kind in CauseKind] == list(JSON_FIELDS)


def test_json_leaves_out_no_value_of_a_cause() -> None:
    found = [causes for change in CHANGES for causes in between(change.before(), change.after(), change.stage).values()]
    found += [expected for _, _, expected in CHECKOUT_INDEPENDENT.values()]
    for cause in (cause for causes in found for cause in causes):
        given_fields = {part.name for part in fields(cause) if getattr(cause, part.name) != part.default}
        assert given_fields - {"kind", "where"} <= set(cause.as_json())


def test_fate_of_a_layer_follows_the_changes_since() -> None:
    history = build_history(edited(wheels(wheel("heavy", "2.0", 5 << 20), LIGHT, THIN, NATIVE)), "runtime")
    (heavy,) = (spec for spec in composer().compose("runtime").specs if spec.name == "deps/heavy")
    history.fates[heavy.key.hex] = Cause(CauseKind.EVICTED, at=AT)
    found = explain(history, composer(), "runtime")
    assert format_causes(found["deps/heavy"]) == "heavy 2.0 → 1.0, evicted by gc on 2026-11-18"


def test_interpreter_and_builder_are_separate_causes() -> None:
    found = between(composer(), edited(apt("base", libc6="2.41", python3_13="3.13.6")))
    assert [str(cause) for cause in found[BIN["native"]]] == [
        "python 3.13.5 → 3.13.6 in base",
        "native recompiled: python 3.13.5 → 3.13.6 in base",
    ]


def test_new_version_and_move_to_an_own_layer_are_two_causes() -> None:
    found = between(composer(), edited(wheels(HEAVY, wheel("light", "2.0", 5 << 20), THIN, NATIVE)))
    assert [str(cause) for cause in found["deps/light"]] == [
        "light 1.0 → 2.0", f"light 2.0 moved from {BIN['light']} to deps/light",
    ]  # fmt: skip


def test_interpreter_outside_debian_is_a_cause() -> None:
    found = between(edited(), edited(settings="interpreter = '/opt/python/bin/python3.13'"))["deps/heavy"]
    where = "pyproject.toml: [tool.buildkit] bytecode-root"
    assert found[0] == Cause(CauseKind.INTERPRETER_CHANGED, stage="base", where=where)
    assert [str(cause) for cause in found] == [
        "a different Python compiles bytecode in base",
        "interpreter /usr/bin/python3.13 → /opt/python/bin/python3.13",
    ]


def test_changes_below_a_step_are_reported_once_each() -> None:
    before = edited(stages=staged("builder", "[config]", OTHER_RUN))
    changed = staged("builder", "[config]", OTHER_RUN)
    changed["builder"] = changed["builder"].replace('"true"', '"false"')
    found = between(before, edited(apt("base", libc6="3", python3_13="3.13.5"), stages=changed), "builder")
    assert [format_cause(cause) for cause in found["builder/other"]] == [
        "a layer below: libc6 2.41 → 3 in base (base.apt.lock:libc6)",
        "a layer below: script of step prepare true → false (stages/builder/stage.toml: run.script)",
    ]


def test_replaced_root_below_a_step_is_a_cause() -> None:
    root = edited(stages=STAGES | {"base": IMAGE}, settings="bytecode = false")
    found = between(edited(settings="bytecode = false"), root, "builder")
    assert found["builder/prepare"][0] == Cause(CauseKind.ROOT_BELOW_CHANGED,
        layer="base/image", because=Cause(CauseKind.NEW_LAYER, where="stages/base/stage.toml: root"),
        where="stages/base/stage.toml: root",
    )  # fmt: skip


def test_report_line_has_three_causes_or_one_with_its_place() -> None:
    many = [tree_file(f"f{number}.py") for number in range(5)]
    found = between(composer(), edited(tree(APP, MAIN, RUN, *many)))["runtime/app"]
    assert format_causes(found) == f"{APP}/f0.py added, {APP}/f1.py added, {APP}/f2.py added and 2 more"
    assert format_causes(found[:1]) == f"{APP}/f0.py added"
    pin = Cause(CauseKind.PIN_ADDED, name="a", version="1", where="x.txt:3")
    assert format_causes([pin]) == "a 1 added (x.txt:3)"
    assert format_causes([pin, replace(pin, name="b")]) == "a 1 added, b 1 added"
    assert (
        format_causes([pin, Cause(CauseKind.PIN_ADDED, name="a", version="1", where="y.txt:1")])
        == "a 1 added (x.txt:3)"
    )


def test_causes_as_json() -> None:
    because = Cause(CauseKind.PACKAGE_CHANGED, name="gcc", before="14", after="15", stage="builder", where="b.lock:3")
    made = Cause(CauseKind.COMPILED_ANEW, name="native", version="1.0", because=because, where="b.lock:3")
    assert made.as_json() == {
        "cause": "compiled-anew",
        "text": "native recompiled: gcc 14 → 15 in builder",
        "where": "b.lock:3",
        "name": "native",
        "version": "1.0",
        "because": {
            "cause": "package-changed", "text": "gcc 14 → 15 in builder", "where": "b.lock:3",
            "name": "gcc", "before": "14", "after": "15", "stage": "builder",
        },
    }  # fmt: skip
    for change in CHANGES:
        assert json.loads(json.dumps(change.expected.as_json()))["text"] == change.text


SPECS = [spec for stage in ("runtime", "builder") for spec in composer().compose(stage).specs]
WORDS = st.sampled_from(
    ["", "x", "1.0", "light", "gcc=14", "python3.13=3.13.4", "a" * 64, "0123456789abcdef" * 4, "x\ny"]
)
SCRAPS = st.none() | st.booleans() | st.integers(0, 3) | WORDS
VALUES = st.recursive(SCRAPS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3))


@st.composite
def altered(draw: st.DrawFn, value: Any) -> Any:
    """Draw ``value`` with a part changed, removed, duplicated or moved, or sometimes a different value."""
    if isinstance(value, list) and value and draw(st.booleans()):
        number = draw(st.integers(0, len(value) - 1))
        is_row = any(isinstance(part, str) and len(part) == 64 for part in value)  # a hash in it must stay in its place
        how = draw(st.sampled_from(["in", "gone"] if is_row else ["in", "gone", "twice", "turned"]))
        inner = [draw(altered(value[number]))] if how == "in" else [] if how == "gone" else [value[number]] * 2
        return value[::-1] if how == "turned" else [*value[:number], *inner, *value[number + 1 :]]
    if isinstance(value, dict) and value and draw(st.booleans()):
        key = draw(st.sampled_from(sorted(value)))
        rest = {name: part for name, part in value.items() if name != key}
        return rest if draw(st.integers(0, 4)) == 0 else {**rest, key: draw(altered(value[key]))}
    return draw(VALUES)


@given(st.data())
def test_every_difference_has_a_cause_without_hashes(data: st.DataObject) -> None:
    spec = data.draw(st.sampled_from(SPECS))
    recipe = json.loads(spec.recipe)
    key = data.draw(st.sampled_from([*sorted(recipe), "new"]))
    before = json.dumps(recipe | {key: data.draw(altered(recipe.get(key)))})
    history = MemoryHistory(last={spec.name: before})
    if data.draw(st.booleans()):
        history = replace(history, pasts=build_history(composer(), "runtime").pasts)
    found = find_causes(spec, before, history, EchoLocations(composer(), composer().compose("runtime")))
    assert found
    assert (json.loads(before) != recipe) is (found != (Cause(CauseKind.FORGOTTEN),))
    for cause in found:
        assert "\n" not in format_cause(cause)
        assert str(cause).strip()
        assert not re.search(
            r"[0-9a-f]{12}", format_cause(cause).replace("a" * 64, "").replace("0123456789abcdef" * 4, "")
        )


@pytest.mark.parametrize("part", ["packages", "wheels", "files", "mounts", "parent", "bytecode", "image", "command"])
def test_new_part_of_a_recipe_is_a_cause_without_hashes(part: str) -> None:
    stages = {"base": IMAGE}
    specs = [*SPECS, *composer(stages).compose("base").specs]
    for spec in (spec for spec in specs if part in json.loads(spec.recipe)):
        before = json.dumps({key: value for key, value in json.loads(spec.recipe).items() if key != part})
        history = MemoryHistory(last={spec.name: before})
        found = find_causes(spec, before, history, EchoLocations(composer(), composer().compose("runtime")))
        assert not re.search(r"[0-9a-f]{12}", format_causes(found))
        assert found != (Cause(CauseKind.FORGOTTEN),)


def users_from(uid: int) -> str:
    """Five accounts, numbered from ``uid`` on."""
    names = ("anna", "ben", "carl", "dora", "eve")
    return "\n".join(f'[[root.user]]\nname = "{name}"\nuid = {uid + number}' for number, name in enumerate(names))


def describe_all_changes() -> str:
    """The causes of every change above, as JSON, in the order in which they are found."""
    rows = [between(change.before(), change.after(), change.stage) for change in CHANGES]
    before, after = (edited(stages=staged("base", "uid = 1000", "uid = 1000\n" + users_from(uid))) for uid in (7, 17))
    rows.append(between(before, after))
    return json.dumps([{name: [cause.as_json() for cause in found] for name, found in row.items()} for row in rows])


def test_order_of_causes_does_not_depend_on_the_hash_seed() -> None:
    code = "import test_explain_causes as t; print(t.describe_all_changes())"
    outputs = set()
    for seed in ("0", "1", "2", "3"):
        env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run((sys.executable, "-c", code), env=env, check=True, capture_output=True, text=True)
        outputs.add(done.stdout)
    assert len(outputs) == 1


def test_own_python_of_another_release_is_the_cause_for_its_layers_and_for_bytecode() -> None:
    own = "python = '3.13'\ninterpreter = 'standalone'"
    newer = edited(lambda checkout: setattr(checkout, "interpreter", python_archive("3.13.10")), settings=own)
    causes = between(edited(settings=own), newer)
    lines = {name: [format_cause(cause) for cause in found] for name, found in causes.items()}
    moved = "python 3.13.9+20261110 → 3.13.10+20261110 (requirements/python.lock)"
    assert lines["/opt/python"] == lines["/opt/python (bytecode)"] == lines["deps/heavy"] == [moved]
    other = edited(lambda checkout: setattr(checkout, "interpreter", python_archive(arch="aarch64")), settings=own)
    causes = between(edited(settings=own), other)
    assert [str(cause) for cause in causes["/opt/python"]] == ["python 3.13.9+20261110: different file"]
    assert "deps/heavy" not in causes
    first = between(edited(), edited(settings=own))
    assert {format_cause(cause) for cause in first["/opt/python"]} == {
        "new layer (pyproject.toml: [tool.buildkit] interpreter)"
    }
    assert "a different Python compiles bytecode" in [str(cause) for cause in first["deps/heavy"]]


def test_image_that_was_pulled_when_it_was_locked_is_what_the_root_was() -> None:
    history = build_history(edited(stages=STAGES | {"base": IMAGE}), "runtime")
    for key, past in history.pasts.items():
        if past.name == "base/image":
            history.pasts[key] = replace(past, name="docker.io/library/python:3.12/image")
    moved = IMAGE.replace("a" * 64, "b" * 64)
    changed = explain(history, edited(stages=STAGES | {"base": moved}), "runtime")
    said = {str(cause) for name, causes in changed.items() if name != "base/image" for cause in causes}
    assert any("image docker.io/library/python:3.12: new digest" in text for text in said)
    assert not any("removed" in text or "new layer" in text for text in said)
