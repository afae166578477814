"""Child processes that exchange data while they run, and how they end."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.errors import ToolError
from buildkit.tools.process import Command, converse, stream

pytestmark = pytest.mark.tools


def shell(script: str) -> Command:
    return Command(argv=("bash", "-c", script), what="the child")


def test_stream_closed_early_lets_the_child_clean_up_with_a_full_pipe(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    # as mmdebstrap does: the parent waits for a child that ignores the signal and fills the pipe, then cleans up
    chunks = stream(shell(f"trap 'wait; rm {mark}; exit 1' TERM; (trap '' TERM; cat /dev/zero) & wait"))
    assert next(chunks)
    chunks.close()
    assert not mark.exists()


def test_stream_raises_at_its_end_with_the_error_output() -> None:
    chunks = stream(shell("echo out; echo why >&2; exit 3"))
    assert next(chunks) == b"out\n"
    with pytest.raises(ToolError, match="the child failed with exit code 3") as caught:
        next(chunks)
    assert caught.value.output == "why"


def test_conversation_ends_with_the_input_and_discards_the_rest() -> None:
    with converse(shell("cat; head -c 1000000 /dev/zero; echo done >&2")) as (stdin, stdout):
        stdin.write(b"hello\n")
        stdin.flush()
        assert stdout.readline() == b"hello\n"


def test_conversation_reports_a_failed_child_even_if_input_was_left() -> None:
    with pytest.raises(ToolError, match="exit code 4") as caught, converse(shell("echo why >&2; exit 4")) as (stdin, _):
        stdin.write(b"never read")
    assert caught.value.output == "why"


def test_large_standard_error_does_not_block_a_conversation() -> None:
    with converse(shell("head -c 10000000 /dev/zero | tr '\\0' 'x\\n' >&2; cat")) as (stdin, stdout):
        stdin.write(b"still here\n")
        stdin.flush()
        assert stdout.readline() == b"still here\n"
