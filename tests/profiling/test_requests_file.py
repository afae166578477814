"""Files of requests: what they say, and what is wrong in which line."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import DefinitionError
from buildkit.profiling.requests_file import ServiceRequest, load_requests


def test_lines_are_requests_with_headers_and_bodies(tmp_path: Path) -> None:
    (tmp_path / "clip.bin").write_bytes(b"\0\1")
    file = tmp_path / "requests.txt"
    file.write_text(
        "# comment\n\nGET /healthz?full=1\n"
        'POST /v1/x @clip.bin "Content-Type: audio/wav" X-Id:7\n  PUT /y \'={"a": 1}\'\n'
    )
    assert load_requests(file) == (
        ServiceRequest(target="/healthz?full=1"),
        ServiceRequest(
            method="POST", target="/v1/x", body=b"\0\1", headers=(("Content-Type", "audio/wav"), ("X-Id", "7"))
        ),
        ServiceRequest(method="PUT", target="/y", body=b'{"a": 1}'),
    )


def test_every_wrong_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "requests.txt"
    lines = [
        "FETCH /x",
        "GET healthz",
        "GET /ok",
        "POST /x @gone",
        "POST /x @/dev/null =text",
        'GET / "half',
        'GET / "X: a\tb" word',
        "GET /a\rX:1",
    ]
    file.write_text("\n".join(lines), newline="")
    with pytest.raises(DefinitionError) as caught:
        load_requests(file)
    found = [(one.file.rpartition(":")[2], one.what) for one in caught.value.problems]
    assert [number for number, _ in found] == ["1", "2", "4", "5", "6", "7"]
    assert "'FETCH' is no method" in found[0][1]
    assert "begins with /" in found[1][1]
    assert "gone: No such file" in found[2][1]
    assert "one body" in found[3][1]
    assert "quotation" in found[4][1]
    assert "neither @FILE" in found[5][1]


def test_an_empty_missing_or_endless_file_is_one_message(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("# nothing\n")
    for path, words in (
        (empty, "names no request"),
        (tmp_path / "none", "No such file"),
        (Path("/dev/zero"), "larger"),
    ):
        with pytest.raises(DefinitionError, match=words):
            load_requests(path)
