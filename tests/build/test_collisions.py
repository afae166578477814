"""Finding paths that two layers own, and paths of the root that a layer would replace."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest

from buildkit.build.collision_sets import check_collisions
from buildkit.build.collisions import AskListing
from buildkit.declare.stage import Config, Copy, Stage
from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import CollisionError, LostError
from buildkit.layers.tar.member import Compression
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackFiles, PackWheels, Spec, Tree
from buildkit.store.blobs import Blobs
from buildkit.store.layer_bytes import LayerBytes
from buildkit.store.ledger import Ledger
from tests.ledgers import LayerId
from tests.plan.planfakes import blob_of, spec_of

ROOT, LOW, HIGH = spec_of("root"), spec_of("low"), spec_of("high")
COMPOSITION = Composition(
    stage=Stage(name="x", file="f", summary="s"), root=(ROOT,), layers=(LOW, HIGH), config=Config()
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite")
    own(made, root=[])
    yield made
    made.close()


def not_asked(key: Key) -> list[tuple[str, str]]:
    raise AssertionError(key)


def check(composition: Composition, ledger: Ledger, blobs: Blobs | None = None, ask: AskListing | None = None) -> None:
    with TemporaryDirectory() as folder:
        check_collisions(composition, ledger, LayerBytes(blobs or Blobs(Path(folder))), ask or not_asked)


def own(ledger: Ledger, **contents: list[tuple[str, str]]) -> None:
    for name, owned in contents.items():
        ledger.add_layer(LayerId(spec_of(name).key, "wheels", name, "{}"), LayerResult(blobs=(blob_of(name),)), owned)


def test_disjoint_layers_and_equal_files_do_not_collide(ledger: Ledger) -> None:
    own(ledger, low=[("a/x", "1"), ("same", "h")], high=[("a/y", "2"), ("same", "h")])
    check(COMPOSITION, ledger)


def test_collision_error_names_path_and_both_layers(ledger: Ledger) -> None:
    own(ledger, low=[("a/x", "1")], high=[("a/x", "2")])
    with pytest.raises(
        CollisionError, match=r"^/a/x is in the layer low and in the layer high, and their bytes differ$"
    ) as caught:
        check(COMPOSITION, ledger)
    assert caught.value.hint


def test_collision_error_names_wheels_that_are_cached(ledger: Ledger, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "cache")

    def bin_of(name: str, member: str) -> Spec:
        wheels = [
            Artifact(name=other, version="1.0", file=f"{other}.whl", sha256=FileHash.of(other.encode()), size=1)
            for other in (f"{name}-a", f"{name}-b", f"{name}-gone")
        ]
        for wheel, path in zip(wheels, ("unrelated.py", member), strict=False):
            assert wheel.sha256 is not None
            with ZipFile(blobs.file_path(wheel.sha256, wheel.file), "w") as file:
                file.writestr(path, b"")
        return replace(spec_of(name), work=PackWheels(wheels=tuple(wheels)))

    low, high = bin_of("low", "pkg/x.py"), bin_of("high", "high-1.data/purelib/pkg/x.py")
    own(ledger, low=[("opt/site-packages/pkg/x.py", "1")], high=[("opt/site-packages/pkg/x.py", "2")])
    with pytest.raises(CollisionError, match=r"is in low-b 1\.0 \(layer low\) and in high-b 1\.0 \(layer high\)"):
        check(replace(COMPOSITION, layers=(low, high)), ledger, blobs)


@pytest.mark.parametrize("turned", [False, True])
def test_file_collides_with_a_folder_of_another_layer(ledger: Ledger, turned: bool) -> None:
    file, folder = [("opt/a", "1")], [("opt/a/b/c", "2"), ("opt/ab", "3")]
    own(ledger, low=folder if turned else file, high=file if turned else folder)
    names = ("high", "low") if turned else ("low", "high")
    with pytest.raises(
        CollisionError, match=rf"^/opt/a is a file in the layer {names[0]} and a folder in the layer {names[1]}$"
    ):
        check(COMPOSITION, ledger)


def test_each_set_of_layers_is_checked_for_collisions_once(ledger: Ledger) -> None:
    own(ledger, low=[("x", "1")], high=[])
    check(COMPOSITION, ledger)
    own(ledger, high=[("x", "2")])  # cannot happen to one key; shows whether it was read again
    check(replace(COMPOSITION, layers=(HIGH, LOW)), ledger)
    with pytest.raises(CollisionError):
        check(replace(COMPOSITION, layers=(LOW, HIGH, ROOT)), ledger)


def share(ledger: Ledger, name: str, *claims: str) -> None:
    ledger.add_remote_layer(
        LayerId(spec_of(name).key, "wheels", name, "{}"), LayerResult(blobs=(blob_of(name),)), claims
    )


def test_listing_of_a_remote_layer_is_fetched_only_if_path_prefixes_overlap(ledger: Ledger) -> None:
    own(ledger, low=[("a/b/c/d/e/low/x", "1")])
    share(ledger, "high", "a/b/c/d/e/high", "bin/y")
    check(COMPOSITION, ledger)
    share(ledger, "third", "a/b/c/d/e/low")
    asked: list[Key] = []

    def ask(key: Key) -> list[tuple[str, str]]:
        asked.append(key)
        return [("a/b/c/d/e/low/x", "2")]

    composition = replace(COMPOSITION, layers=(*COMPOSITION.layers, spec_of("third")))
    for _ in range(2):
        with pytest.raises(CollisionError, match="/a/b/c/d/e/low/x is in the layer low and in the layer third"):
            check(composition, ledger, ask=ask)
    assert asked == [spec_of("third").key]  # what was asked once is kept


def test_file_of_a_remote_layer_collides_with_a_local_folder(ledger: Ledger) -> None:
    own(ledger, low=[("a/b/x", "1")])
    share(ledger, "high", "a/b")
    with pytest.raises(CollisionError, match="/a/b is a file in the layer high and a folder in the layer low"):
        check(COMPOSITION, ledger, ask=lambda _key: [("a/b", "1")])


ROOT_LISTING = [
    ("bin", "-> usr/bin"), ("etc/motd", "1"), ("etc/tool", "1 +x"), ("run", "/"), ("srv", "/"), ("usr/bin/env", "2 +x"),
    ("var/loop", "-> loop"), ("var/run", "-> /run"), ("dev/null", "special"),
]  # fmt: skip


def copying(name: str) -> Spec:
    work = PackFiles(tree=Tree(path="app", files=()), copy=Copy(source="app", target="/"))
    return replace(spec_of(name), kind=Kind.FILES, work=work)


@pytest.mark.parametrize(
    ("path", "content", "message", "hint"),
    [
        ("var/run/tool", "9", "would replace /var/run, a link to /run of the root", "another target"),
        ("bin/tool", "9", "would replace /bin, a link to usr/bin of the root", "leads to: /usr/bin/tool"),
        ("bin", "9", "would replace /bin, a link to usr/bin of the root", "another target"),
        ("bin", "-> other", "would replace /bin, a link to usr/bin of the root", "another target"),
        ("var/loop/x", "9", "would replace /var/loop, a link to loop of the root", "another target"),
        ("etc/motd/x", "9", "would replace /etc/motd, a file of the root", "another target"),
        ("etc/motd", "-> x", "would replace /etc/motd, a file of the root", "another target"),
        ("srv", "9", "would replace /srv, a folder of the root", "another target"),
        ("usr/bin", "9", "would replace /usr/bin, a folder of the root", "another target"),
        ("dev/null", "9", "would replace /dev/null, a device or a pipe of the root", "another target"),
    ],
)
@pytest.mark.parametrize("make", [spec_of, copying])
def test_no_layer_replaces_a_link_or_a_folder_of_the_root(
    ledger: Ledger, make: Callable[[str], Spec], path: str, content: str, message: str, hint: str
) -> None:
    own(ledger, root=ROOT_LISTING, low=[(path, content)], high=[])
    with pytest.raises(CollisionError) as caught:
        check(replace(COMPOSITION, layers=(make("low"), HIGH)), ledger)
    assert f"/{path} of the layer low {message}" in str(caught.value)
    assert hint in caught.value.hint


def test_only_a_copy_replaces_a_file_of_the_root(ledger: Ledger) -> None:
    for content in ("9", "1 +x"):
        own(ledger, root=ROOT_LISTING, low=[("etc/motd", content)], high=[])
        check(replace(COMPOSITION, layers=(copying("low"),)), ledger)
        with pytest.raises(CollisionError, match="/etc/motd of the layer low would replace /etc/motd, a file"):
            check(replace(COMPOSITION, layers=(LOW, HIGH)), ledger)


def test_paths_beside_those_of_the_root_and_equal_ones_are_fine(ledger: Ledger) -> None:
    low = [("run/tool", "9"), ("srv/x", "9"), ("usr/bin/tool", "9"), ("etc/tool", "1 +x"), ("bin", "-> usr/bin")]
    own(ledger, root=ROOT_LISTING, low=low, high=[])
    check(COMPOSITION, ledger)


def test_layers_are_checked_again_on_another_root(ledger: Ledger) -> None:
    own(ledger, root=[], other=[("x", "/")], low=[("x", "1")], high=[])
    check(COMPOSITION, ledger)
    with pytest.raises(CollisionError, match="a folder of the root"):
        check(replace(COMPOSITION, root=(spec_of("other"),)), ledger)


def test_upper_layer_of_a_root_counts_as_a_runtime_applies_it(ledger: Ledger) -> None:
    step = replace(spec_of("step"), kind=Kind.RUN)
    own(ledger, root=ROOT_LISTING, step=[("var/.wh.run", "0"), ("srv/.wh..wh..opq", "0")], high=[])
    own(ledger, low=[("var/run/tool", "9")])
    check(replace(COMPOSITION, root=(ROOT, step)), ledger)


@pytest.mark.parametrize("content", ["1", "1 +x"])
def test_executable_bit_is_part_of_the_content(ledger: Ledger, content: str) -> None:
    own(ledger, low=[("bin/tool", "1 +x")], high=[("bin/tool", content)])
    if content == "1 +x":
        check(COMPOSITION, ledger)
    else:
        with pytest.raises(CollisionError, match="only one of them is executable"):
            check(COMPOSITION, ledger)


@pytest.mark.parametrize(
    ("first", "second", "why"),
    [("-> a", "-> b", "they are links to different paths"), ("-> a", "1", "only one of them is a link")],
)
def test_collision_of_links_is_described(ledger: Ledger, first: str, second: str, why: str) -> None:
    own(ledger, low=[("x", first)], high=[("x", second)])
    with pytest.raises(CollisionError, match=f"^/x is in the layer low and in the layer high, and {why}$"):
        check(COMPOSITION, ledger)


def test_layer_that_is_gone_from_the_ledger_is_lost_which_a_new_plan_repairs(ledger: Ledger) -> None:
    own(ledger, low=[("a", "1")])
    with pytest.raises(LostError, match=f"the layer {HIGH.key.short} is gone from the ledger"):
        check(COMPOSITION, ledger)


def test_listing_of_a_root_is_read_from_its_blobs_once(ledger: Ledger, tmp_path: Path) -> None:
    """Of a registry's image, or a step: a link of a lower blob that an upper one removes is no link of the root."""
    blobs = Blobs(tmp_path / "cache")
    stored = tuple(
        store_tar(blobs, *members)
        for members in (
            [("gone", tarfile.SYMTYPE), ("var/run", tarfile.SYMTYPE), ("srv", tarfile.DIRTYPE), ("f", tarfile.REGTYPE)],
            [(".wh.gone", tarfile.REGTYPE), ("f", tarfile.LNKTYPE)],
        )
    )
    image = replace(spec_of("image"), kind=Kind.IMAGE)
    ledger.add_layer(LayerId(image.key, "image", "image", "{}"), LayerResult(blobs=stored), None)
    own(ledger, low=[("gone/x", "1")], high=[])
    check(replace(COMPOSITION, root=(image,)), ledger, blobs)
    assert dict(ledger.layers.contents(image.key) or ()).keys() == {"f", "srv", "var/run"}
    own(ledger, third=[("var/run/x", "1")])
    for stored_blob in stored:
        blobs.path(stored_blob.digest).unlink()
    with pytest.raises(CollisionError, match="/var/run, a link to target of the root"):
        check(replace(COMPOSITION, root=(image,), layers=(spec_of("third"),)), ledger, blobs)


def store_tar(blobs: Blobs, *members: tuple[str, bytes]) -> Blob:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, kind in members:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "target"
            tar.addfile(entry)
    data = out.getvalue()
    blobs.path(Digest.of(data)).parent.mkdir(parents=True, exist_ok=True)
    blobs.path(Digest.of(data)).write_bytes(data)
    return Blob(
        digest=Digest.of(data),
        diff_id=DiffId.of(data),
        size=len(data),
        unpacked=len(data),
        compression=Compression.NONE,
    )


def wheel_layer(name: str) -> Spec:
    wheel = Artifact(name=name, version="1.0", file=f"{name}.whl", sha256=FileHash.of(name.encode()), size=1)
    return replace(spec_of(name), work=PackWheels(wheels=(wheel,)))


def preferring(*names: str) -> Composition:
    layers = (wheel_layer("low"), wheel_layer("high"))
    return replace(COMPOSITION, layers=layers, prefer=names)


def test_upper_preferred_wheel_may_replace_files_of_another_wheel(ledger: Ledger) -> None:
    own(ledger, low=[("a/x.py", "1")], high=[("a/x.py", "2")])
    for prefer in ((), ("low",)):
        with pytest.raises(CollisionError, match="pip would keep the file of the one that it installs last"):
            check(preferring(*prefer), ledger)
    copied = replace(COMPOSITION, layers=(copying("low"), wheel_layer("high")), prefer=("high",))
    with pytest.raises(CollisionError, match=r"in the layer low and in the layer high, and their bytes differ$"):
        check(copied, ledger)
    check(preferring("high"), ledger)
    with pytest.raises(CollisionError):  # what passed with a preference does not pass without
        check(preferring(), ledger)


def test_bytecode_of_a_replaced_module_must_be_replaced_too(ledger: Ledger) -> None:
    module, compiled = "a/x.py", "a/__pycache__/x.cpython-313.pyc"
    own(ledger, low=[(module, "1"), (compiled, "3")], high=[(module, "2"), (compiled, "4")])
    check(preferring("high"), ledger)
    own(ledger, third=[(module, "2")])  # it could not be compiled
    uncompiled = replace(COMPOSITION, layers=(wheel_layer("low"), wheel_layer("third")), prefer=("third",))
    with pytest.raises(CollisionError, match="is of a module that a preferred package replaces"):
        check(uncompiled, ledger)
