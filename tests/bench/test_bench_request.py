"""Options of a race; conflicts are found before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildkit.cli import bench
from buildkit.cli.bench import parse_request
from buildkit.errors import DefinitionError


@pytest.fixture
def no_race(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("run_race", "run_scale"):
        monkeypatch.setattr(bench, name, lambda *_: pytest.fail("it raced"))


def test_request_without_options_has_defaults() -> None:
    options = parse_request(())
    assert (options.workload, options.stage, options.repeat, options.compare) == ("reference", "", 3, None)
    assert parse_request(("--compare", "old.json")).fail_over == 0.15
    assert parse_request(("--compare", "old.json", "--fail-over", "30%")).fail_over == 0.3
    assert parse_request(("--scale", "--repeat", "1", "--output", "x", "--json")).scale


@pytest.mark.usefixtures("no_race")
@pytest.mark.parametrize(
    ("arguments", "words", "hint"),
    [
        (("--fail-over", "15%"), "--fail-over", "--compare OLD.json"),
        (("--fail-over", "0"), "--fail-over", "--compare OLD.json"),
        (("--scale", "--compare", "old.json"), "--compare", "without --scale"),
        (("--scale", "--scenario", "cold"), "--scenario", "without --scale"),
        (("--scale", "--until", "pushed"), "--until", "without --scale"),
        (("--scale", "--peer"), "--peer", "without --scale"),
        (("--scale", "--workload", "reference"), "--workload", "without --scale"),
        (("--scale", "--stage", "app"), "--stage", "without --scale"),
        (("--scale", "--no-push"), "--no-push", "without --scale"),
        (("--scale", "--fill-memory"), "--fill-memory", "without --scale"),
        (("--scale", "--stage", "app", "--no-push"), "--stage, --no-push", "without --scale"),
    ],
)
def test_conflicting_options_are_refused(tmp_path: Path, arguments: tuple[str, ...], words: str, hint: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        bench.run(tmp_path, arguments)
    assert words in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("no_race")
@pytest.mark.parametrize("content", [None, b"", b"\xff", b"[]", b"folder"])
def test_unreadable_old_results_are_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "old.json"
    if content == b"folder":
        file.mkdir()
    elif content is not None:
        file.write_bytes(content)
    with pytest.raises(DefinitionError, match=r"old\.json") as caught:
        bench.run(tmp_path, ("--compare", str(file)))
    assert "results.json" in caught.value.hint
