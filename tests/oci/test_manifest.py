"""Manifests and configs of foreign images: read within limits, or refused with the path of the problem."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildkit.digest import DiffId, Digest
from buildkit.hostile_json import MalformedError
from buildkit.oci.manifest import ImageIndexError, ImageManifest, parse_config, parse_manifest

CONFIG, LAYER = Digest.of(b"config"), Digest.of(b"layer")
MANIFEST: dict[str, Any] = {"config": {"digest": str(CONFIG)}, "layers": [{"digest": str(LAYER), "size": 3}]}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


def parse(**changes: Any) -> ImageManifest:
    return parse_manifest(json.dumps(MANIFEST | changes).encode())


def test_manifest_is_read() -> None:
    assert parse() == ImageManifest(config=CONFIG, layers=((LAYER, 3),))


def test_config_is_read_with_its_diff_ids() -> None:
    diff_id = DiffId.of(b"tar")
    value, diff_ids = parse_config(json.dumps({"rootfs": {"diff_ids": [str(diff_id)]}, "a": "b"}).encode())
    assert diff_ids == (diff_id,)
    assert value.member("a").text() == "b"


def test_index_of_several_images_is_told_apart() -> None:
    with pytest.raises(ImageIndexError, match="an index of several images"):
        parse(manifests=[])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": None}, "config is not an object"),
        ({"config": {"digest": "md5:x"}}, "config.digest is not a digest"),
        ({"layers": {}}, "layers is not a list"),
        ({"layers": [1]}, r"layers\[0\] is not an object"),
        ({"layers": [{"digest": str(LAYER)}]}, r"layers\[0\] has no `size`"),
        ({"layers": [{"digest": str(LAYER), "size": "3"}]}, r"layers\[0\].size is not an integer"),
        ({"layers": [{"digest": str(LAYER), "size": -1}]}, r"layers\[0\].size is not between"),
    ],
)
def test_malformed_manifest_is_refused_with_the_path(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse(**changes)


@given(st.sampled_from(["config", "layers", "manifests", "rootfs"]), VALUES)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    with suppress(MalformedError):
        parse(**{key: value})
    with suppress(MalformedError):
        parse_config(json.dumps({key: value}).encode())
