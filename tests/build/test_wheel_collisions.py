"""Wheels with different files at one path: found once they are fetched, and settled by what the stage prefers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from buildkit.build.context import BuildContext, open_context
from buildkit.build.wheel_collisions import WheelCollisions, wheel_comparison
from buildkit.declare.project import parse_project
from buildkit.declare.stage import Config, Stage
from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import CollisionError, LostError
from buildkit.events import ignore_event
from buildkit.layers.tar.member import Compression
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Compile, Kind, PackWheels, Spec
from buildkit.tasks.scheduler import Lane, Outcome, Task
from buildkit.tasks.task_id import TaskId, TaskKind
from tests.layers.wheelmaker import make_wheel
from tests.ledgers import LayerId

SITE = "opt/venv/lib/python3.13/site-packages"


@dataclass
class Wheels:
    """A cache with wheels that were fetched."""

    context: BuildContext
    folder: Path

    def layer(self, layer: str, **files: dict[str, bytes]) -> Spec:
        """A layer of wheels, one for each project."""
        wheels = []
        for name, content in files.items():
            made = make_wheel(
                self.folder, content, name=name, METADATA=f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n\n"
            )
            sha256 = FileHash(hashlib.sha256(made.read_bytes()).hexdigest())
            made.rename(self.context.blobs.file_path(sha256, made.name))
            wheels.append(Artifact(name=name, version="1.0", file=made.name, sha256=sha256, size=1))
        return Spec(
            name=f"deps/{layer}", kind=Kind.WHEELS, recipe="{}", key=Key.of(layer.encode()),
            work=PackWheels(wheels=tuple(wheels)), history="",
        )  # fmt: skip

    def check(self, *layers: Spec, prefer: tuple[str, ...] = (), old: tuple[Spec, ...] = ()) -> None:
        WheelCollisions(self.context, composition(*layers, *old, prefer=prefer)).check(layers)


def composition(*layers: Spec, prefer: tuple[str, ...] = ()) -> Composition:
    stage = Stage(name="deps", file="stages/deps/stage.toml", summary="s")
    return Composition(stage=stage, root=(), layers=layers, config=Config(), prefer=prefer)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Wheels]:
    monkeypatch.setenv("BUILDKIT_CACHE", str(tmp_path / "cache"))
    with open_context(parse_project("[tool.buildkit]\npython = '3.13'", tmp_path), ignore_event) as context:
        yield Wheels(context, tmp_path / "made")


FULL = {"cv2/__init__.py": b"full"}
HEADLESS = {"cv2/__init__.py": b"headless"}


def apart(wheels: Wheels) -> tuple[Spec, ...]:
    return wheels.layer("full", opencv_python=FULL), wheels.layer("less", opencv_python_headless=HEADLESS)


def together(wheels: Wheels) -> tuple[Spec, ...]:
    return (wheels.layer("bin-1", opencv_python=FULL, opencv_python_headless=HEADLESS),)


@pytest.mark.parametrize("lay", [apart, together])
def test_wheels_that_meet_are_named_with_what_pip_would_do(
    wheels: Wheels, lay: Callable[[Wheels], tuple[Spec, ...]]
) -> None:
    with pytest.raises(CollisionError) as caught:
        wheels.check(*lay(wheels))
    assert caught.value.message == (
        f"/{SITE}/cv2/__init__.py is in opencv_python 1.0 and in opencv_python_headless 1.0, and their bytes differ; "
        "pip would keep the file of the one that it installs last, and say nothing"
    )
    assert 'prefer = ["NAME"] in [wheels] of stages/deps/stage.toml' in caught.value.hint


def test_preferred_wheel_settles_it(wheels: Wheels) -> None:
    full, less = apart(wheels)
    wheels.check(full, less, prefer=("opencv_python",))
    wheels.check(full, less, prefer=("opencv_python_headless",))
    with pytest.raises(CollisionError):
        wheels.check(full, less, prefer=("other",))


def test_namespaces_and_equal_files_do_not_meet_but_stray_tests_do(wheels: Wheels) -> None:
    """`backports.tarfile` with `backports.weakref`: each declares the namespace in words of its own."""
    first = wheels.layer(
        "bin-1",
        one={"backports/__init__.py": b"from pkgutil import extend_path\n__path__ = extend_path(__path__, __name__)\n"},
        two={
            "backports/__init__.py": b"# ours\n__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n",
            "LICENSE": b"free",
        },
        three={"LICENSE": b"free", "tests/__init__.py": b""},
    )
    wheels.check(first)
    with pytest.raises(CollisionError, match=r"tests/__init__\.py is in three 1\.0 and in four 1\.0"):
        wheels.check(first, wheels.layer("bin-2", four={"tests/__init__.py": b"import four"}))


def test_layer_that_was_built_before_is_compared_by_its_listing(wheels: Wheels) -> None:
    full, less = apart(wheels)
    listing = [(f"{SITE}/cv2/__init__.py", hashlib.sha256(b"headless").hexdigest())]
    stored = Blob(
        digest=Digest.of(b"x"), diff_id=DiffId.of(b"x"), size=1, unpacked=1, compression=Compression.ZSTD
    )  # fmt: skip
    wheels.context.ledger.add_layer(LayerId(less.key, "wheels", less.name, "{}"), LayerResult(blobs=(stored,)), listing)
    with pytest.raises(CollisionError, match=r"in opencv_python 1\.0 and in the layer deps/less"):
        wheels.check(full, old=(less,))
    wheels.check(full, old=(less,), prefer=("opencv_python_headless",))
    wheels.check(wheels.layer("same", again={"cv2/__init__.py": b"headless"}), old=(less,))


def test_compiled_wheel_is_compared_before_it_is_packed(wheels: Wheels) -> None:
    """A stray `tests/` in the project's own package is as common as in others."""
    made = wheels.layer("made", tk={"tests/__init__.py": b"ours"})
    assert isinstance(made.work, PackWheels)
    (wheel,) = made.work.wheels
    assert wheel.sha256 is not None
    own = Artifact(name="tk", version="1.0", path="./libs/tk")
    key = Key.of(b"compiled")
    wheels.context.ledger.wheels.add(key, "{}", wheel.file, wheel.sha256, 1.0)
    compiled = Compile(artifact=own, recipe="{}", key=key)
    layer = replace(made, work=PackWheels(wheels=(own,), compiled=(compiled,)))
    other = wheels.layer("other", third={"tests/__init__.py": b"theirs"})
    with pytest.raises(CollisionError, match=r"tests/__init__\.py is in tk 1\.0 and in third 1\.0"):
        wheels.check(layer, other)
    tasks = {
        TaskId.of_key(TaskKind.LAYER, layer.key): Task(
            name="x", phase="pack", lane=Lane.CPU, action=Outcome, needs=(TaskId(TaskKind.COMPILE_WHEEL, "c"),)
        )
    }
    ((_, task),) = wheel_comparison(wheels.context, composition(layer, other), tasks).items()
    assert task.needs == (TaskId(TaskKind.COMPILE_WHEEL, "c"),)


def test_wheel_that_is_gone_ends_the_comparison(wheels: Wheels) -> None:
    full, less = apart(wheels)
    assert isinstance(full.work, PackWheels)
    gone = replace(full.work.wheels[0], sha256=FileHash.of(b"gone"))
    with pytest.raises(LostError, match="is gone"):
        wheels.check(replace(full, work=PackWheels(wheels=(gone,))), less)


def test_comparison_waits_for_downloads_alone_and_decides(wheels: Wheels) -> None:
    full, less = apart(wheels)
    seen = {TaskId.of_key(TaskKind.LAYER, full.key): Task(name="x", phase="pack", lane=Lane.CPU, action=Outcome)}
    assert not wheel_comparison(wheels.context, composition(full, less), seen), "locking has compared them"
    assert isinstance(less.work, PackWheels)
    less = replace(less, work=PackWheels(wheels=(replace(less.work.wheels[0], unseen=True),)))
    fetched = TaskId(TaskKind.FETCH, "a wheel")
    needs = (fetched, TaskId(TaskKind.START_COMPILER))
    tasks = {
        TaskId.of_key(TaskKind.LAYER, spec.key): Task(
            name=spec.name, phase="pack", lane=Lane.CPU, action=Outcome, needs=needs
        )
        for spec in (full, less)
    }
    found = wheel_comparison(wheels.context, composition(full, less), tasks)
    (task,) = (found[name] for name in found if name.kind is TaskKind.COMPARE)
    assert task.needs == (fetched,)
    assert task.decides
    with pytest.raises(CollisionError):
        task.action()
    assert not wheel_comparison(wheels.context, composition(full, less), {})


def test_nothing_is_packed_before_a_wheel_is_compared_that_nobody_saw_when_it_was_locked(wheels: Wheels) -> None:
    full, less = apart(wheels)
    assert isinstance(less.work, PackWheels)
    unseen = replace(less, work=PackWheels(wheels=(replace(less.work.wheels[0], unseen=True),)))
    tasks = {
        TaskId.of_key(TaskKind.LAYER, spec.key): Task(name=spec.name, phase="pack", lane=Lane.CPU, action=Outcome)
        for spec in (full, unseen)
    }
    found = wheel_comparison(wheels.context, composition(full, unseen), tasks)
    (compared,) = (name for name in found if name.kind is TaskKind.COMPARE)
    assert {name: found[name].needs for name in tasks} == dict.fromkeys(tasks, (compared,))
