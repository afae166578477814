"""Which builds upload layers while they are packed: those whose layers a registry surely lacks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from buildkit.build.context import BuildContext
from buildkit.build.uploads import open_streams
from buildkit.digest import Digest, Key
from buildkit.oci.reference import Ref, parse_ref
from buildkit.plan.plan import Plan

REF = parse_ref("registry.example/some/app:one", "it")


def planned(*, built: int, layers: int = 10) -> Plan:
    stage = SimpleNamespace(stage=SimpleNamespace(name="app"))
    return cast("Plan", SimpleNamespace(missing=range(built), entries=range(layers), composition=stage))


def streams(context: BuildContext, plan: Plan, folder: Path, *refs: Ref) -> bool:
    with (folder / "blob").open("wb") as out, open_streams(context, plan, refs).open(Key.of(b"it"), out) as stream:
        return stream is not None


@pytest.fixture
def pushed(context: BuildContext) -> BuildContext:
    """A machine that has pushed the stage to that tag."""
    image = context.project.ref("app")
    report: dict[str, Any] = {"stage": "app", "image": image, "digest": "sha256:1", "seconds": 1.0, "timings": {}}
    context.ledger.builds.add({**report, "pushed": [{"ref": str(REF), "digest": str(Digest.of(b"it"))}]}, 1.0)
    return context


def test_tag_that_this_machine_has_pushed_gets_a_changed_layer(pushed: BuildContext, tmp_path: Path) -> None:
    assert streams(pushed, planned(built=1), tmp_path, REF)
    assert streams(pushed, planned(built=5), tmp_path, REF)


def test_nothing_is_streamed_where_most_layers_are_built(pushed: BuildContext, tmp_path: Path) -> None:
    assert not streams(pushed, planned(built=6), tmp_path, REF)  # an update of this program: new keys, old bytes


def test_nothing_is_streamed_to_a_tag_that_is_not_known(pushed: BuildContext, tmp_path: Path) -> None:
    assert not streams(pushed, planned(built=1), tmp_path, REF.tagged("two"))
    assert not streams(pushed, planned(built=1), tmp_path)


def test_machine_that_has_pushed_nothing_streams_nothing(context: BuildContext, tmp_path: Path) -> None:
    assert not streams(context, planned(built=1), tmp_path, REF)
