"""Commits of git repositories as tars, from a real git server on loopback."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildkit.errors import FetchError
from buildkit.locks.git_source import GitSource
from buildkit.tools.git_fetch import fetch_commit
from tests.gitserver import GitServer, serve_git

ATTRIBUTES = "* text ident export-subst eol=crlf\nsrc export-ignore\n"  # of a checkout, and of git archive


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GitServer]:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with serve_git(tmp_path / "served") as served:
        yield served


def fetched(source: GitSource) -> bytes:
    out = io.BytesIO()
    fetch_commit(source, out)
    return out.getvalue()


def test_commit_is_a_tar_with_the_same_bytes_whatever_attributes_say(server: GitServer) -> None:
    files = {"pyproject.toml": "x", "src/a.py": "$Id$\n", ".gitattributes": ATTRIBUTES}
    commit = server.commit("one", files)
    place = server.folder / "one.git"
    (place / "run").write_text("#!/bin/sh\n")
    (place / "run").chmod(0o755)
    (place / "link").symlink_to("src/a.py")
    second = server.commit("one", {**files, "kept": ""})
    data = fetched(GitSource(url=server.url("one"), commit=commit))
    assert data == fetched(GitSource(url=server.url("one"), commit=commit)), "and no later commit matters"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        stem = f"one-{commit[:12]}"
        assert {name.removeprefix(stem) for name in archive.getnames()} == {
            "", "/.gitattributes", "/pyproject.toml", "/src", "/src/a.py",
        }  # fmt: skip
        member = archive.extractfile(f"{stem}/src/a.py")
        assert member is not None
        assert member.read() == b"$Id$\n"
    with tarfile.open(fileobj=io.BytesIO(fetched(GitSource(url=server.url("one"), commit=second)))) as archive:
        stem = f"one-{second[:12]}"
        assert archive.getmember(f"{stem}/run").mode == 0o755
        assert archive.getmember(f"{stem}/link").linkname == "src/a.py"


def test_private_repository_needs_the_users_own_credentials(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = server.commit("private", {"a": "b"})
    server.password = "hush"
    source = GitSource(url=server.url("private"), commit=commit)
    with pytest.raises(FetchError) as caught:
        fetched(source)
    assert caught.value.message.startswith(f"{source} cannot be fetched: ")
    assert caught.value.hint.endswith(f"git ls-remote {server.url('private')}")
    helper = "!f() { echo username=me; echo password=hush; }; f"
    for name, value in {"COUNT": "1", "KEY_0": "credential.helper", "VALUE_0": helper}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert fetched(source)


def test_missing_commits_repositories_and_submodules_are_named(server: GitServer) -> None:
    server.commit("one", {"a": "b"})
    with pytest.raises(FetchError, match=r"@0{40} cannot be fetched"):
        fetched(GitSource(url=server.url("one"), commit="0" * 40))
    with pytest.raises(FetchError, match=r"none\.git@1{40} cannot be fetched: .*not found"):
        fetched(GitSource(url=server.url("none"), commit="1" * 40))
    commit = server.commit("one", {"a": "b"}, submodule="vendor/x")
    with pytest.raises(FetchError, match="has a submodule, vendor/x, which is not fetched"):
        fetched(GitSource(url=server.url("one"), commit=commit))


def test_caller_that_is_a_hook_of_another_repository_does_not_matter(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = server.commit("one", {"a": "b"})
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert fetched(GitSource(url=server.url("one"), commit=commit))
    assert not (tmp_path / "elsewhere").exists()
