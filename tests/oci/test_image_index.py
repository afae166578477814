"""Indexes of one image for several processors: the same bytes whatever the order, and nothing more is read."""

import json

import pytest

from buildkit.digest import Digest
from buildkit.hostile_json import MalformedError
from buildkit.oci.image_index import IndexedImage, parse_image_index, render_image_index

AMD = IndexedImage(arch="amd64", digest=Digest.of(b"a"), size=1)
ARM = IndexedImage(arch="arm64", digest=Digest.of(b"b"), size=2)
INDEX = json.loads(render_image_index([AMD, ARM]))


def test_index_does_not_depend_on_the_order_in_which_images_were_made() -> None:
    assert render_image_index([ARM, AMD]) == render_image_index([AMD, ARM])
    assert parse_image_index(render_image_index([ARM, AMD])) == (AMD, ARM)
    assert str(Digest.of(render_image_index([AMD, ARM]))) == (
        "sha256:342cf4cbac55152c09e864773124dab9fbcc19bad75c3c21323ac4b28095d85e"
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"annotations": {"a": "b"}},
        {"manifests": INDEX["manifests"][::-1]},
        {"manifests": [INDEX["manifests"][0], INDEX["manifests"][0]]},
        {"manifests": [INDEX["manifests"][0] | {"platform": {"architecture": "amd64", "os": "windows"}}]},
        {"manifests": [INDEX["manifests"][0] | {"urls": ["https://example.org"]}]},
        {"manifests": [INDEX["manifests"][0] | {"platform": {"os": "linux"}}]},
        {"mediaType": "application/vnd.docker.distribution.manifest.list.v2+json"},
    ],
)
def test_index_that_a_push_does_not_write_is_malformed(changed: dict[str, object]) -> None:
    with pytest.raises(MalformedError):
        parse_image_index(json.dumps(INDEX | changed, separators=(",", ":")).encode())


def test_index_with_other_spaces_is_malformed() -> None:
    with pytest.raises(MalformedError, match="not one that a push writes"):
        parse_image_index(json.dumps(INDEX).encode())
