"""Assembling layers to an image, and finding paths that two layers own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

import pytest

from buildkit.build.assemble import Listing, assemble, check_collisions
from buildkit.declare.stage import Config, Stage
from buildkit.digest import DiffId, Digest, FileHash, Key
from buildkit.errors import CollisionError, DefinitionError
from buildkit.layers.tar.member import Compression
from buildkit.locks.pins import Artifact
from buildkit.oci.blob import Blob, LayerResult
from buildkit.plan.compose import Composition
from buildkit.plan.spec import Kind, PackPrefix, PackWheels, Spec
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from tests.ledgers import LayerId


def spec(name: str) -> Spec:
    return Spec(
        name=name, kind=Kind.WHEELS, recipe="{}", key=Key.of(name.encode()), work=PackPrefix(), history=f"of {name}"
    )


def blob(name: str) -> Blob:
    data = name.encode()
    return Blob(digest=Digest.of(data), diff_id=DiffId.of(data), size=1, unpacked=1, compression=Compression.ZSTD)


ROOT, LOW, HIGH = spec("root"), spec("low"), spec("high")
COMPOSITION = Composition(
    stage=Stage(name="x", file="f", summary="s"), root=(ROOT,), layers=(LOW, HIGH), config=Config()
)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "ledger.sqlite")
    yield made
    made.close()


def not_asked(key: Key) -> list[tuple[str, str]]:
    raise AssertionError(key)


def check(composition: Composition, ledger: Ledger, blobs: Blobs | None = None, ask: Listing | None = None) -> None:
    with TemporaryDirectory() as folder:
        check_collisions(composition, ledger, blobs or Blobs(Path(folder)), ask or not_asked)


def own(ledger: Ledger, **contents: list[tuple[str, str]]) -> None:
    for name, owned in contents.items():
        ledger.add_layer(LayerId(spec(name).key, "wheels", name, "{}"), LayerResult(blobs=(blob(name),)), owned)


def test_image_has_all_blobs_of_layers_in_spec_order() -> None:
    made = {ROOT.key: LayerResult(blobs=(blob("1"), blob("2"))), LOW.key: LayerResult(blobs=(blob("3"),))}
    image = assemble((ROOT, LOW), Config(user="u"), made, "arm64")
    assert [(layer.blob, layer.history) for layer in image.layers] == [
        (blob("1"), "of root"), (blob("2"), "of root"), (blob("3"), "of low"),
    ]  # fmt: skip
    assert image.arch == "arm64"
    assert image.config == Config(user="u")


def brought(count: int) -> dict[Key, LayerResult]:
    """A registry's image of so many layers below one of ours."""
    return {
        ROOT.key: LayerResult(blobs=tuple(blob(str(n)) for n in range(count))),
        LOW.key: LayerResult(blobs=(blob("low"),)),
    }


def test_image_with_more_layers_than_containerd_allows_is_refused() -> None:
    assert len(assemble((ROOT, LOW), Config(), brought(126), "amd64").layers) == 127
    with pytest.raises(
        DefinitionError, match=r"^the image would have 128 layers, more than 127; root has 127$"
    ) as caught:
        assemble((ROOT, LOW), Config(), brought(127), "amd64")
    assert "fewer layers" in caught.value.hint


def test_project_setting_lowers_the_layer_limit() -> None:
    assert len(assemble((ROOT, LOW), Config(), brought(8), "amd64", most=9).layers) == 9
    with pytest.raises(DefinitionError, match=r"^the image would have 9 layers, more than 8; root has 8$"):
        assemble((ROOT, LOW), Config(), brought(8), "amd64", most=8)


def env_of(environment: dict[str, str], *brought: str) -> dict[str, str]:
    made = {ROOT.key: LayerResult(blobs=(), env=brought)}
    return dict(assemble((ROOT,), Config(env=tuple(environment.items())), made, "amd64").config.env)


def test_stage_environment_overrides_that_of_a_registry_image() -> None:
    assert env_of({"A": "2"}, "A=1", "B=x=y", "C=") == {"A": "2", "B": "x=y", "C": ""}


def test_path_variable_of_a_registry_image_is_kept() -> None:
    assert env_of({"PATH": "/opt/venv/bin:$PATH"}, "PATH=/cuda/bin:/bin")["PATH"] == "/opt/venv/bin:/cuda/bin:/bin"
    assert env_of({"PATH": "$PATH"})["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert env_of({"PATH": "/only"}, "PATH=/cuda/bin")["PATH"] == "/only"
    assert "PATH" not in env_of({"A": "$PATH"})


def test_disjoint_layers_and_equal_files_do_not_collide(ledger: Ledger) -> None:
    own(ledger, low=[("a/x", "1"), ("same", "h")], high=[("a/y", "2"), ("same", "h")])
    check(COMPOSITION, ledger)


def test_collision_error_names_path_and_both_layers(ledger: Ledger) -> None:
    own(ledger, low=[("a/x", "1")], high=[("a/x", "2")])
    with pytest.raises(
        CollisionError, match=r"^/a/x is in the layer low and in the layer high with different content$"
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
        return replace(spec(name), work=PackWheels(wheels=tuple(wheels)))

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


def test_layers_may_replace_files_of_the_root(ledger: Ledger) -> None:
    own(ledger, root=[("etc/x", "1")], low=[("etc/x", "2")], high=[])
    check(COMPOSITION, ledger)


def test_each_set_of_layers_is_checked_for_collisions_once(ledger: Ledger) -> None:
    own(ledger, low=[("x", "1")], high=[])
    check(COMPOSITION, ledger)
    own(ledger, high=[("x", "2")])  # cannot happen to one key; shows whether it was read again
    check(replace(COMPOSITION, layers=(HIGH, LOW)), ledger)
    with pytest.raises(CollisionError):
        check(replace(COMPOSITION, layers=(LOW, HIGH, ROOT)), ledger)


def share(ledger: Ledger, name: str, *claims: str) -> None:
    ledger.add_remote_layer(LayerId(spec(name).key, "wheels", name, "{}"), LayerResult(blobs=(blob(name),)), claims)


def test_listing_of_a_remote_layer_is_fetched_only_if_path_prefixes_overlap(ledger: Ledger) -> None:
    own(ledger, low=[("a/b/c/d/e/low/x", "1")])
    share(ledger, "high", "a/b/c/d/e/high", "bin/y")
    check(COMPOSITION, ledger)
    share(ledger, "third", "a/b/c/d/e/low")
    asked: list[Key] = []

    def ask(key: Key) -> list[tuple[str, str]]:
        asked.append(key)
        return [("a/b/c/d/e/low/x", "2")]

    composition = replace(COMPOSITION, layers=(*COMPOSITION.layers, spec("third")))
    for _ in range(2):
        with pytest.raises(CollisionError, match="/a/b/c/d/e/low/x is in the layer low and in the layer third"):
            check(composition, ledger, ask=ask)
    assert asked == [spec("third").key]  # what was asked once is kept


def test_file_of_a_remote_layer_collides_with_a_local_folder(ledger: Ledger) -> None:
    own(ledger, low=[("a/b/x", "1")])
    share(ledger, "high", "a/b")
    with pytest.raises(CollisionError, match="/a/b is a file in the layer high and a folder in the layer low"):
        check(COMPOSITION, ledger, ask=lambda _key: [("a/b", "1")])
