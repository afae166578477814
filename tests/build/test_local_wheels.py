"""Wheels of local folders are used where they are: the cache links to them, notices changes, and never touches them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from buildkit.build import sbom, wheel_gate
from buildkit.build.containers import open_containers
from buildkit.build.context import BuildContext
from buildkit.build.inputs import InputTasks
from buildkit.build.layer_writer import LayerWriter
from buildkit.build.model_files import open_model_file
from buildkit.build.planner import Planner
from buildkit.build.wheel_collisions import WheelCollisions
from buildkit.build.wheel_gate import WheelGate
from buildkit.declare.stage import Config, Stage
from buildkit.digest import FileHash, Key
from buildkit.errors import BuildError, FetchError, LostError
from buildkit.events import Event, Note
from buildkit.layers.wheel.archive import BytesAt, WheelZip
from buildkit.locks.model_source import PypiSource
from buildkit.locks.pins import Artifact, Model, ModelFile
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackWheels, Spec
from buildkit.store.scan_verdicts import ScanVerdicts
from tests.layers.wheelmaker import make_wheel

Use = Callable[[Path | str], None]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel in the folder ``links``, with times that say that it is not being written."""
    made = make_wheel(tmp_path / "links", {"demo/__init__.py": b"", "demo/data.bin": b"weights"})
    os.utime(made, (5, 5))
    return made


@pytest.fixture
def pinned(wheel: Path) -> Artifact:
    return Artifact(name="demo-pkg", version="1.0", file=wheel.name, sha256=FileHash.of(wheel.read_bytes()))


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Use:
    """Take wheels from this folder, and from no index."""

    def set_variables(place: Path | str) -> None:
        monkeypatch.setenv("UV_FIND_LINKS", str(place))
        monkeypatch.setenv("PIP_NO_INDEX", "1")

    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return set_variables


def fetch(context: BuildContext, artifact: Artifact) -> Path:
    """Run the task that fetches a file, as a build that has just started does."""
    context.files.__dict__.pop("fetcher", None)
    tasks: dict = {}
    with open_containers(context, LayerWriter(blobs=context.blobs, store=context.image_store)) as containers:
        name = InputTasks(context, containers, tasks, pytest.fail, lambda _composition: ()).fetch(artifact)
    assert name is not None, "the cache has it"
    tasks[name].action()
    assert artifact.sha256 is not None
    return context.blobs.file_path(artifact.sha256, artifact.file)


def get(context: BuildContext, artifact: Artifact) -> Path:
    assert artifact.sha256 is not None
    return context.files.get_file(artifact.name, artifact.sha256, artifact.file)


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1] + b"!")


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("with spaces", str),
        (os.fsdecode(b"not-utf-8-\xff"), str),
        ("ü", os.path.relpath),
        ("with spaces", Path.as_uri),
    ],
)
def test_wheel_of_a_local_folder_becomes_a_link(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, name: str, place: Callable[[Path], str]
) -> None:
    folder = wheel.parent.rename(wheel.parent.with_name(name))
    use(place(folder))
    before = (folder / wheel.name).stat()
    path = fetch(context, pinned)
    assert path.readlink() == folder / wheel.name
    assert get(context, pinned) == path
    assert context.blobs.has_file(FileHash.of(path.read_bytes()), wheel.name)
    after = (folder / wheel.name).stat()
    assert (after.st_ctime_ns, after.st_mode, after.st_nlink) == (before.st_ctime_ns, before.st_mode, 1)


def test_link_leads_to_the_file_itself_where_the_folder_has_links(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, tmp_path: Path
) -> None:
    (tmp_path / "store").mkdir()
    real = wheel.rename(tmp_path / "store/by-its-hash")
    wheel.symlink_to(real)
    (tmp_path / "alias").symlink_to(wheel.parent)
    use(tmp_path / "alias")
    path = fetch(context, pinned)
    assert path.readlink() == real
    assert path.name == pinned.file


def test_wheel_in_the_checkout_is_linked(context: BuildContext, wheel: Path, pinned: Artifact, use: Use) -> None:
    use("/nowhere")
    assert fetch(context, replace(pinned, place=f"links/{wheel.name}")).readlink() == wheel


def test_sdist_is_copied(context: BuildContext, wheel: Path, use: Use) -> None:
    """A container compiles it, and would have to see another folder."""
    data = b"an sdist"
    (wheel.parent / "x-1.0.tar.gz").write_bytes(data)
    use(wheel.parent)
    path = fetch(context, Artifact(name="x", version="1.0", file="x-1.0.tar.gz", sha256=FileHash.of(data)))
    assert not path.is_symlink()
    assert path.read_bytes() == data


@needs_root
@pytest.mark.parametrize("place", [".", "links", "links/wheel"])
@pytest.mark.parametrize(
    "share", [lambda path: os.chown(path, 12345, 12345), lambda path: path.chmod(path.stat().st_mode | 0o002)]
)
def test_wheel_that_another_user_could_change_is_copied_unless_trusted(
    context: BuildContext,
    wheel: Path,
    pinned: Artifact,
    use: Use,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    share: Callable[[Path], None],
) -> None:
    shared = tmp_path / place.replace("wheel", wheel.name)
    share(shared)
    use(wheel.parent)
    path = fetch(context, pinned)
    assert not path.is_symlink()
    path.unlink()
    monkeypatch.setenv("BUILDKIT_TRUSTED_FOLDERS", str(shared))
    assert fetch(context, pinned).is_symlink()


def test_wheel_below_the_cache_is_copied(context: BuildContext, wheel: Path, pinned: Artifact, use: Use) -> None:
    inside = context.blobs.folder / "tmp/made"
    inside.mkdir()
    wheel.rename(inside / wheel.name)
    use(inside)
    assert not fetch(context, pinned).is_symlink()


def test_wheel_with_other_bytes_is_neither_linked_nor_copied(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use
) -> None:
    change(wheel)
    use(wheel.parent)
    with pytest.raises(BuildError, match=r"demo-pkg==1\.0 .*: the lock says"):
        fetch(context, pinned)
    assert list(context.blobs.folder.glob("files/*/*")) == []


def test_link_to_a_folder_that_is_gone_counts_as_absent_and_is_replaced(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, tmp_path: Path
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    moved = wheel.parent.rename(tmp_path / "moved")
    assert path.is_symlink()
    assert not context.blobs.has_file(FileHash.of((moved / wheel.name).read_bytes()), wheel.name)
    with pytest.raises(FetchError, match=r"no index and no find-links has demo-pkg==1\.0"):
        fetch(context, pinned)
    use(moved)
    assert fetch(context, pinned).readlink() == moved / wheel.name
    (tmp_path / "copy").mkdir()
    shutil.copy(moved / wheel.name, tmp_path / "copy")
    shutil.rmtree(moved)
    (tmp_path / "copy").chmod(0o777)
    use(tmp_path / "copy")
    path = fetch(context, pinned)
    assert not path.is_symlink()
    assert get(context, pinned) == path


@pytest.mark.parametrize("how", ["in place", "replaced"])
def test_changed_file_is_noticed_and_only_its_link_removed(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, how: str
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    get(context, pinned)
    if how == "replaced":
        shutil.copy(wheel, wheel.with_name("other"))
        wheel.with_name("other").rename(wheel)
    change(wheel)
    mine = wheel.read_bytes(), wheel.stat()
    with pytest.raises(LostError, match=f"^demo-pkg: {wheel} has other bytes by now, and is not used$"):
        get(context, pinned)
    assert not path.is_symlink()
    assert (wheel.read_bytes(), wheel.stat().st_ctime_ns) == (mine[0], mine[1].st_ctime_ns)


def test_file_that_is_gone_is_named(context: BuildContext, wheel: Path, pinned: Artifact, use: Use) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    wheel.unlink()
    with pytest.raises(LostError, match=f"^demo-pkg: {wheel} is gone$"):
        get(context, pinned)
    assert not path.is_symlink()


def test_file_that_cannot_be_reached_any_more_is_named(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, tmp_path: Path
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    wheel.parent.rename(tmp_path / "moved")
    wheel.parent.write_bytes(b"a file now")
    with pytest.raises(LostError, match=f"^demo-pkg: {wheel} cannot be read: Not a directory$"):
        get(context, pinned)
    assert not path.is_symlink()


_REACH = """import sys
from pathlib import Path
from buildkit.build.context import open_context
from buildkit.declare.project import parse_project
from buildkit.digest import FileHash
from buildkit.errors import BuildError
from buildkit.locks.pins import Artifact
folder, file, sha256 = Path(sys.argv[1]), sys.argv[2], FileHash(sys.argv[3])
with open_context(parse_project("", folder), print) as context:
    print(context.blobs.has_file(sha256, file))
    path = context.blobs.file_path(sha256, file)
    artifact = Artifact(name="demo-pkg", version="1.0", file=file, sha256=sha256)
    for use in (
        lambda: context.files.get_file("demo-pkg", sha256, file),
        lambda: context.files.download(sha256, path, lambda: context.files.fetch(artifact, path, print)),
    ):
        try:
            print(use())
        except BuildError as error:
            print(error)
"""


@pytest.mark.tools
@pytest.mark.parametrize(
    ("closed", "has", "fetched"),
    [
        ("links/wheel", "True", "{wheel}: Permission denied"),
        ("links", "False", "{folder}: Permission denied"),
        (".", "False", "no index and no find-links has demo-pkg==1.0 ({name})"),
    ],
)
def test_file_that_may_not_be_read_any_more_is_named(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, tmp_path: Path, closed: str, has: str, fetched: str
) -> None:
    (tmp_path / "up").mkdir()
    wheel = wheel.parent.rename(tmp_path / "up/links") / wheel.name
    use(wheel.parent)
    path = fetch(context, pinned)
    place = tmp_path / "up" / closed.replace("wheel", wheel.name)
    mode = place.stat().st_mode
    place.chmod(0)
    without = (
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
    )  # root may read what an ordinary user may not
    argv = (sys.executable, "-c", _REACH, str(tmp_path), pinned.file, path.parent.name)
    done = subprocess.run((*without, *argv) if os.geteuid() == 0 else argv, capture_output=True, text=True, timeout=60)
    place.chmod(mode)
    assert done.stdout.splitlines() == [
        has,
        f"demo-pkg: {wheel} cannot be read: Permission denied",
        fetched.format(wheel=wheel, folder=wheel.parent, name=wheel.name),
    ], done.stderr
    assert wheel.exists()


# while it is read


def read(context: BuildContext, path: Path, meanwhile: Callable[[], None], kept: list[str]) -> None:
    """Read a wheel, and keep what was made of it."""
    with context.files.unchanged([path]) as settle:
        meanwhile()
        settle()
        kept.append("what was made of it")


def rewrite(wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes())


def put_another(wheel: Path) -> None:
    shutil.copy2(wheel, wheel.with_name("other"))
    wheel.with_name("other").rename(wheel)


def change_and_back(wheel: Path) -> None:
    times, data = wheel.stat(), wheel.read_bytes()
    change(wheel)
    wheel.write_bytes(data)
    os.utime(wheel, ns=(times.st_atime_ns, times.st_mtime_ns))


def swap_folder_and_back(wheel: Path) -> None:
    folder, away = wheel.parent, wheel.parent.with_name("away")
    folder.rename(away)
    folder.mkdir()
    wheel.write_bytes(b"what is read")
    shutil.rmtree(folder)
    away.rename(folder)


@pytest.mark.parametrize(
    "meanwhile", [change, rewrite, put_another, change_and_back, swap_folder_and_back, Path.unlink]
)
def test_what_was_read_of_a_file_that_changed_meanwhile_is_not_kept(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, meanwhile: Callable[[Path], None]
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    get(context, pinned)
    with pytest.raises(LostError, match=str(wheel)):
        read(context, path, lambda: meanwhile(wheel), kept := [])
    assert kept == []


def test_other_files_may_come_and_go_beside_it_while_it_is_read(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)
    get(context, pinned)

    def come_and_go() -> None:
        for folder in (wheel.parent, wheel.parents[1]):
            (folder / "new").touch()
            (folder / "newer").mkdir()
            (folder / "new").unlink()

    read(context, path, come_and_go, kept := [])
    assert kept


@pytest.mark.parametrize("error", [BuildError("what a half-written file leads to"), OSError("gone")])
def test_error_of_a_file_that_changed_is_a_loss(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, error: Exception
) -> None:
    use(wheel.parent)
    path = fetch(context, pinned)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        read(context, path, fail, [])
    assert caught.value is error, "nothing changed"

    def change_and_fail() -> None:
        change(wheel)
        fail()

    with pytest.raises(LostError, match="has other bytes by now"):
        read(context, path, change_and_fail, [])


def test_file_of_the_cache_itself_is_not_watched(context: BuildContext, wheel: Path, pinned: Artifact) -> None:
    assert pinned.sha256 is not None
    path = context.blobs.file_path(pinned.sha256, pinned.file)
    shutil.copy(wheel, path)
    read(context, path, path.unlink, kept := [])  # another process replaces a damaged one
    assert kept


def test_verdict_of_a_wheel_that_changed_under_the_scanner_is_not_recorded(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(wheel.parent)
    path, scan = fetch(context, pinned), wheel_gate.scan_wheel
    assert pinned.sha256 is not None

    def scan_another(wheel: Path, *more: object) -> object:
        put_another(path.resolve())
        return scan(wheel, *more)

    gate = WheelGate(context)
    with monkeypatch.context() as patch:
        patch.setattr(wheel_gate, "scan_wheel", scan_another)
        with pytest.raises(LostError, match="changed while it was read"):
            gate.check([path])
    verdicts = ScanVerdicts(context.ledger)
    assert verdicts.find([pinned.sha256], gate._rules) == {}
    gate.check([path])
    assert verdicts.find([pinned.sha256], gate._rules).keys() == {pinned.sha256}


def compare(context: BuildContext, pinned: Artifact) -> object:
    spec = Spec(
        name="deps/bin-0",
        kind=Kind.WHEELS,
        recipe="{}",
        key=Key.of(b"k"),
        work=PackWheels(wheels=(pinned,)),
        history="",
    )
    stage = Stage(name="deps", file="stages/deps/stage.toml", summary="s")
    WheelCollisions(context, Composition(stage=stage, root=(), layers=(spec,), config=Config())).check([spec])
    return "compared"


def read_model(context: BuildContext, pinned: Artifact) -> object:
    model = model_in(pinned, b"weights")
    with open_model_file(context, model, model.files[0]) as file:
        return file.name


def model_in(pinned: Artifact, data: bytes) -> Model:
    file = ModelFile(path="data.bin", sha256=FileHash.of(data), size=len(data), source="demo/data.bin")
    source = PypiSource(project="demo-pkg")
    return Model(name="m", version="1.0", source=source, license="MIT", files=(file,), wheel=pinned)


def find_metadata(context: BuildContext, pinned: Artifact) -> object:
    finder = sbom._MetadataFinder(cast("Planner", SimpleNamespace(context=context)), {})
    return finder.find(pinned, None, cast("Spec", SimpleNamespace(key=Key.of(b"k"))))


@pytest.mark.parametrize("reader", [compare, read_model, find_metadata])
@pytest.mark.parametrize("meanwhile", [put_another, change, Path.unlink])
def test_no_reader_believes_a_wheel_that_changes_under_it(
    context: BuildContext,
    events: list[Event],
    wheel: Path,
    pinned: Artifact,
    use: Use,
    monkeypatch: pytest.MonkeyPatch,
    reader: Callable[[BuildContext, Artifact], object],
    meanwhile: Callable[[Path], None],
) -> None:
    use(wheel.parent)
    fetch(context, pinned)
    assert reader(context, pinned)
    head, acts = WheelZip.__init__, [meanwhile]

    def change_then_read(self: WheelZip, path: Path, at: BytesAt | None = None) -> None:
        if acts:
            acts.pop()(wheel)
        head(self, path, at)

    monkeypatch.setattr(WheelZip, "__init__", change_then_read)
    if reader is find_metadata:  # nothing depends on it: the rest of the list is made
        assert reader(context, pinned) is None
        assert [str(wheel) in event.text for event in events if isinstance(event, Note)] == [True]
    else:
        with pytest.raises(LostError, match=str(wheel)):
            reader(context, pinned)


def test_model_in_a_wheel_that_changed_is_a_loss(
    context: BuildContext, wheel: Path, pinned: Artifact, use: Use
) -> None:
    use(wheel.parent)
    fetch(context, pinned)
    model = model_in(pinned, b"weights")
    with open_containers(context, LayerWriter(blobs=context.blobs, store=context.image_store)) as containers:
        inputs = InputTasks(context, containers, {}, pytest.fail, lambda _composition: ())
        inputs.check_downloads(model, model.files)
        change(wheel)
        with pytest.raises(LostError, match="has other bytes by now"):
            inputs.check_downloads(model, model.files)
