"""What a container's own Python says, which may be anything."""

from __future__ import annotations

import pytest

from buildkit.inspection.container_probe import parse_written
from buildkit.inspection.parity import parse_packages


@pytest.mark.parametrize("text", [b"", b"{", b"5", b"[1]", b"\xff", b"[" * 100_000])
def test_an_answer_that_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):
        parse_packages(text)


def test_versions_are_read_as_texts() -> None:
    assert parse_packages(b'{"a": "1.0", "b": null}') == {"a": "1.0", "b": "None"}


@pytest.mark.parametrize("text", ["", "{", "5", '"a"', "{}", "[" * 100_000])
def test_what_names_no_paths_is_none(text: str) -> None:
    assert parse_written(text) is None
    assert parse_written('["/tmp"]') == ("/tmp",)
