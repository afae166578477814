"""Hashes: one type each, parsed strictly; canonical JSON."""

from __future__ import annotations

import pytest

from buildkit.digest import DiffId, Digest, FileHash, Key, canonical_json

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_digest_has_the_form_of_the_image_specification() -> None:
    digest = Digest.of(b"")
    assert digest.hex == EMPTY
    assert str(digest) == f"sha256:{EMPTY}"
    assert digest.short == "e3b0c44298fc"
    assert Digest.parse(str(digest)) == digest


def test_hashes_of_different_kinds_are_never_equal() -> None:
    kinds = (Digest, DiffId, Key, FileHash)
    assert len({kind(EMPTY) for kind in kinds}) == 4
    for one in kinds:
        for other in kinds:
            assert (one(EMPTY) == other(EMPTY)) is (one is other)
            assert type(one.parse(f"sha256:{EMPTY}")) is one


@pytest.mark.parametrize(
    "text",
    [EMPTY, f"sha512:{EMPTY}", f"sha256:{EMPTY[:-1]}", f"sha256:{EMPTY.upper()}", f"sha256:{EMPTY}\n", "sha256:", ""],
)
def test_anything_but_a_sha256_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Digest.parse(text)


def test_foreign_text_is_shortened_in_the_error() -> None:
    with pytest.raises(ValueError) as caught:
        Digest("x" * 5000)
    assert len(str(caught.value)) < 200


def test_equal_values_give_equal_json() -> None:
    one, other = {"b": 1, "a": ["é", None]}, {"a": ["é", None], "b": 1}
    assert canonical_json(one) == canonical_json(other) == '{"a":["é",null],"b":1}'
