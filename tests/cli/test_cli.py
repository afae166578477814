"""Wrong arguments and environments: one line of error, an exit code, and no traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from buildkit.build.context import cache_folder
from buildkit.build.options import ModelChanges
from buildkit.cli import build, lock, verify_image
from buildkit.cli.guard import guarded
from buildkit.cli.options import parse_build_options
from buildkit.errors import BuildError, DefinitionError
from buildkit.report.output_files import check_writable, write_text


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", "²", "٣", "9" * 5000])
def test_jobs_below_one_or_not_a_number_are_refused(number: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_build_options([f"--jobs={number}"])
    assert caught.value.message == f"argument --jobs: must be a number from 1 on, not {number!r}"
    assert "\n" not in caught.value.hint


@pytest.mark.parametrize("ci", ["", "0", "false", "true", "1"])
def test_changed_models_are_built_where_asked_for_but_never_in_ci_or_frozen(ci: str) -> None:
    env = {"CI": ci}
    assert parse_build_options([]).model_changes(env) is ModelChanges.REFUSE
    assert parse_build_options(["--frozen"]).model_changes(env) is ModelChanges.FROZEN
    asked = parse_build_options(["--changed-models"])
    assert asked.model_changes({}) is ModelChanges.ACCEPT
    if ci in ("true", "1"):
        with pytest.raises(DefinitionError, match="CI builds no model that differs from its lock"):
            asked.model_changes(env)
    else:
        assert asked.model_changes(env) is ModelChanges.ACCEPT
    with pytest.raises(DefinitionError, match="--frozen allows no model that differs from its lock") as caught:
        parse_build_options(["--changed-models", "--frozen"]).model_changes(env)
    assert "nox -s lock" in caught.value.hint


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["localhost:5000/x:one"], "does not say which image of which stage"),
        (["runtime", "localhost:5000/x:one", "--signed-tag"], "--signed-tag needs a tag and a key"),
        (["runtime", f"localhost:5000/x@sha256:{'0' * 64}", "--signed-tag", "--key=x"], "--signed-tag needs a tag"),
        (["localhost:5000/x:one", "--stage=runtime"], "unrecognized arguments: --stage"),
    ],
)
def test_image_is_verified_only_as_a_named_stage(arguments: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        verify_image.run(tmp_path, arguments)
    assert why in caught.value.message
    assert caught.value.hint


def test_secrets_are_named_as_builders_of_containerfiles_name_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    words = ["id=a,src=token", "id=b,env=B", "type=file,id=c,source=/c", "type=env,id=d,src=D", "id=e,src=~/e"]
    options = parse_build_options([f"--secret={word}" for word in words])
    assert options.secrets == (
        ("a", f"file:{tmp_path}/token"), ("b", "env:B"), ("c", "file:/c"), ("d", "env:D"), ("e", "file:/home/me/e"),
    )  # fmt: skip


@pytest.mark.parametrize(
    "word", ["a", "id=a", "src=x", "id=,src=x", "id=a,src=", "id=a,src=x,env=Y", "id=a,command=x", "type=x,id=a,src=b"]
)
def test_secret_without_a_name_or_a_source_is_refused(word: str) -> None:
    with pytest.raises(DefinitionError, match="must be id=NAME,src=FILE or id=NAME,env=VARIABLE, not"):
        parse_build_options([f"--secret={word}"])


def test_tags_are_signed_only_with_a_key() -> None:
    with pytest.raises(DefinitionError, match="--sign-tags needs a key"):
        parse_build_options(["localhost:5000/x", "--sign-tags"], "x", push=True)


@pytest.mark.parametrize("argument", ["--upgrade=3", "--bogus", "stray"])
def test_wrong_arguments_of_lock_raise_a_definition_error(argument: str, tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=argument.lstrip("-").partition("=")[0]):
        lock.run(tmp_path, [argument])


@pytest.mark.parametrize("name", ["no/such/report.json", "."])
def test_unwritable_report_fails_before_the_build_begins(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "stages").write_text("reading this would be another error")
    assert guarded(lambda: build.run_build(tmp_path, "x", ["--json", str(tmp_path / name)])) == 2
    assert "this file cannot be written" in capsys.readouterr().err


def test_os_error_about_a_file_is_reported_with_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: len((tmp_path / "gone").read_bytes())) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/gone: No such file or directory\n"


def test_os_error_without_a_file_is_raised_as_a_defect() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input"):
        guarded(fail)


def test_full_disk_is_reported_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "x")

    assert guarded(fail) == 1
    assert capsys.readouterr().err == "error: the disk is full\nhint: free some room: df -h shows where\n"


def test_read_only_file_system_is_no_lack_of_room(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise OSError(errno.EROFS, "x", "/data/file")

    assert guarded(fail) == 1
    hint = "findmnt shows what is mounted read-only"
    assert capsys.readouterr().err == f"error: /data/file: the file system is read-only\nhint: {hint}\n"


def test_written_file_is_complete_or_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "report.json"
    write_text(file, "old")
    write_text(file, "new")
    assert file.read_text() == "new"

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "x")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(BuildError, match=r"report\.json: the disk is full") as caught:
        write_text(file, "newer")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == [file]
    assert file.read_text() == "new"


def test_report_can_be_written_to_a_device_and_through_a_link(tmp_path: Path) -> None:
    write_text(Path("/dev/null"), "x")
    assert Path("/dev/null").is_char_device()
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "target").read_text() == "x"
    with pytest.raises(BuildError, match="/dev/full: the disk is full"):
        write_text(Path("/dev/full"), "x")


def test_file_that_only_its_folder_forbids_to_replace_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "report.json"
    file.write_text("old")
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) == file)
    with pytest.raises(DefinitionError, match=r"report\.json: this file cannot be written"):
        check_writable(file)
    check_writable(file, append=True)


@pytest.mark.parametrize("size", [10, 1_000_000])
def test_closed_standard_output_exits_with_141_in_silence(
    size: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``nox -s plan | head -1`` leaves early, whether or not all of it was written by then."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        monkeypatch.setattr("sys.stdout", out)
        assert guarded(lambda: print("x" * size)) == 141
        monkeypatch.undo()
    assert capsys.readouterr().err == ""


def test_broken_pipe_of_another_stream_is_raised_as_a_defect() -> None:
    def fail() -> None:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        guarded(fail)


def test_guarded_returns_the_exit_code_of_the_action() -> None:
    assert guarded(lambda: None) == 0
    assert guarded(lambda: 3) == 3


def test_cache_folder_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BUILDKIT_CACHE", "a/cache")
    assert cache_folder() == tmp_path / "a/cache"
    monkeypatch.setenv("BUILDKIT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg/xoe-buildkit"


@pytest.mark.parametrize(("value", "what"), [("~no-such-user-here/x", "home folder"), ("/tmp/a:b", "colon")])
def test_impossible_cache_folder_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, what: str) -> None:
    monkeypatch.setenv("BUILDKIT_CACHE", value)
    with pytest.raises(BuildError, match=what) as caught:
        cache_folder()
    assert "BUILDKIT_CACHE" in caught.value.hint
