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
from buildkit.oci.manifest import ImageIndexError, ImageManifest, parse_config, parse_manifest, parse_manifest_json

CONFIG, LAYER = Digest.of(b"config"), Digest.of(b"layer")
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "config": {"digest": str(CONFIG)},
    "layers": [{"digest": str(LAYER), "size": 3}],
}
INDEX: dict[str, Any] = {"schemaVersion": 2, "manifests": [{"digest": str(LAYER), "size": 3}]}
OTHER = [{"digest": str(Digest.of(b"other")), "size": 5}]
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
        parse_manifest(json.dumps(INDEX).encode())


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


# 4.19: a key that another reader takes for one that we know


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"Layers": OTHER}, "the manifest has the key Layers, which some programs take for `layers`"),
        ({"layer\u017f": OTHER}, "which some programs take for `layers`"),  # as Go's JSON folds it
        ({"CONFIG": {}}, "take for `config`"),
        ({"Manifests": []}, "the manifest has the unknown key Manifests"),
        ({"manifests": []}, "the manifest has the unknown key (config|layers)"),
        ({"fsLayers": []}, "the manifest has the unknown key fsLayers"),
        ({"layers": [{**OTHER[0], "Digest": str(LAYER)}]}, r"layers\[0\] has the key Digest, which .* `digest`"),
        ({"layers": [{**OTHER[0], "offset": 1}]}, r"layers\[0\] has the unknown key offset"),
        ({"config": {"digest": str(CONFIG), "SIZE": 1}}, "config has the key SIZE"),
        ({"subject": {**OTHER[0], "mediatype": "x"}}, "subject has the key mediatype"),
        ({"config": {**OTHER[0], "platform": {"OS": "linux"}}}, "config.platform has the key OS"),
        ({"schemaVersion": 1}, "another schema version"),
        ({"mediaType": "application/vnd.oci.image.index.v1+json"}, "another media type"),
    ],
)
def test_manifest_that_another_reader_may_take_for_another_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse(**changes)


@pytest.mark.parametrize("document", [MANIFEST, INDEX])
def test_doubled_key_is_refused_wherever_it_stands(document: dict[str, Any]) -> None:
    whole = json.dumps(document)
    for key in ("schemaVersion", "layers", "manifests", "digest", "size"):
        doubled = whole.replace(f'"{key}":', f'"{key}": 7, "{key}":')
        if doubled != whole:
            with pytest.raises(MalformedError, match=f"^the manifest has the key {key} twice in one object$"):
                parse_manifest(doubled.encode())
    with pytest.raises(MalformedError, match="the config has the key diff_ids twice"):
        parse_config(b'{"rootfs": {"diff_ids": [], "diff_ids": []}}')


def test_images_of_public_registries_are_read() -> None:
    part = {
        **OTHER[0],
        "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
        "urls": ["https://example.org/it"],
        "annotations": {"Org.Example": "1", "org.example": "2", "com.docker.official-images.bashbrew.arch": "amd64"},
        "data": "e30=",
        "artifactType": "x/y",
        "platform": {"architecture": "arm", "os": "linux", "os.version": "1", "os.features": ["x"], "variant": "v8"},
    }
    types = {"artifactType": "x/y", "annotations": {"a": "1", "A": "2"}}
    parse(mediaType="application/vnd.oci.image.manifest.v1+json", layers=[part], subject=part, **types)
    parse(mediaType="application/vnd.docker.distribution.manifest.v2+json", layers=[part])
    for media_type in (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    ):
        index = {**INDEX, "mediaType": media_type, "manifests": [part], "subject": part, **types}
        assert parse_manifest_json(json.dumps(index).encode()).has("manifests")


def config_with(place: tuple[str, ...], key: str) -> bytes:
    """A config as Docker and its builders write it, with one more key in one of its objects."""
    value: dict[str, Any] = {
        "architecture": "amd64", "os": "linux", "os.version": "1", "variant": "v8", "created": "x", "author": "me",
        "container": "0", "container_config": {"Hostname": "x"}, "docker_version": "20", "id": "0", "parent": "1",
        "moby.buildkit.buildinfo.v1": "e30=", "moby.buildkit.cache.v0": None,
        "config": {
            "Hostname": "", "Domainname": "", "AttachStdin": False, "Tty": False, "Image": "sha256:0", "OnBuild": None,
            "User": "1", "Env": ["A=1"], "Cmd": ["x"], "Labels": {"Maintainer": "a", "maintainer": "b"},
            "Volumes": {"/Data": {}, "/data": {}}, "ArgsEscaped": True, "Healthcheck": {"Test": ["NONE"]},
        },
        "history": [{"created": "x", "created_by": "y", "empty_layer": True}],
        "rootfs": {"type": "layers", "diff_ids": [str(DiffId.of(b"tar"))]},
    }  # fmt: skip
    target = value
    for name in place:
        target = target[name][0] if name == "history" else target[name]
    target[key] = 1
    return json.dumps(value).encode()


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ((), "Config"),
        ((), "RootFS"),
        ((), "Architecture"),
        (("config",), "user"),
        (("config",), "ENV"),
        (("config",), "healthCheck"),
        (("config", "Healthcheck"), "test"),
        (("rootfs",), "Diff_ids"),
        (("history",), "Created_by"),
    ],
)
def test_config_may_have_unknown_keys_but_none_that_means_a_known_one(place: tuple[str, ...], key: str) -> None:
    assert parse_config(config_with(place, "x-unknown"))[1] == (DiffId.of(b"tar"),)
    with pytest.raises(MalformedError, match=f"has the key {key}, which some programs take for"):
        parse_config(config_with(place, key))


@given(st.sampled_from(["config", "layers", "manifests", "rootfs"]), VALUES)
def test_any_value_is_read_or_refused(key: str, value: Any) -> None:
    with suppress(MalformedError):
        parse(**{key: value})
    with suppress(MalformedError):
        parse_config(json.dumps({key: value}).encode())


@pytest.mark.parametrize(("size", "valid"), [(1 << 50, True), ((1 << 50) + 1, False)])
def test_size_of_a_layer_is_at_most_a_pebibyte(size: int, valid: bool) -> None:
    layers = [{"digest": str(LAYER), "size": size}]
    if valid:
        assert parse(layers=layers).layers == ((LAYER, size),)
        return
    with pytest.raises(MalformedError):
        parse(layers=layers)


@pytest.mark.parametrize("history", [None, {}, {"a": 1}, "x", 1])
def test_history_of_another_type_does_not_hide_the_diff_ids(history: object) -> None:
    """Nobody who wants the layers needs it; who reads it checks its type."""
    diff_id = DiffId.of(b"tar")
    _, diff_ids = parse_config(json.dumps({"rootfs": {"diff_ids": [str(diff_id)]}, "history": history}).encode())
    assert diff_ids == (diff_id,)
