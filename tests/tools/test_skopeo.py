"""Contract tests with the real skopeo."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from buildkit.digest import DiffId
from buildkit.errors import ToolError
from buildkit.tools import skopeo
from buildkit.tools.buildah import commit, remove_image, run_in, working_container
from buildkit.tools.process import Command, run
from buildkit.tools.skopeo import copy_dir_to_storage, copy_upper_layers, raw_manifest
from tests.tools.tinyimage import import_tiny_image

pytestmark = pytest.mark.tools

REF = f"localhost/buildkit-test/skopeo:{os.getpid()}"


@pytest.mark.parametrize("compressed", [False, True])
def test_imported_image_keeps_its_manifest(refs: list[str], tmp_path: Path, compressed: bool) -> None:
    assert raw_manifest(REF) is None
    refs.append(REF)
    import_tiny_image(tmp_path, REF, compressed=compressed)
    assert raw_manifest(REF) == (tmp_path / "manifest.json").read_bytes()


def test_blob_in_storage_is_not_read_again(refs: list[str], tmp_path: Path) -> None:
    refs += [REF, f"{REF}-again"]
    layer = import_tiny_image(tmp_path, REF)
    (tmp_path / layer.hex).unlink()
    copy_dir_to_storage(tmp_path, f"{REF}-again")
    assert raw_manifest(f"{REF}-again") == raw_manifest(REF)


def test_blob_missing_from_storage_and_layout_is_an_error(tmp_path: Path, refs: list[str]) -> None:
    refs.append(REF)
    layer = import_tiny_image(tmp_path, REF)
    remove_image(REF)
    (tmp_path / layer.hex).unlink()
    with pytest.raises(ToolError, match="importing localhost/buildkit-test"):
        copy_dir_to_storage(tmp_path, REF)
    assert raw_manifest(REF) is None


@pytest.mark.parametrize("compressed", [False, True])
def test_the_top_layer_is_copied_alone_and_uncompressed(refs: list[str], tmp_path: Path, compressed: bool) -> None:
    refs += [REF, f"{REF}-top"]
    (tmp_path / "in").mkdir()
    layer = import_tiny_image(tmp_path / "in", REF, compressed=compressed)
    with working_container(REF) as box:
        run_in(box, ("/usr/bin/touch", "/opt/new"), env={}, network=False)
        commit(box, f"{REF}-top", tmp_path)
    ((diff_id, path),) = copy_upper_layers(f"{REF}-top", (layer,), tmp_path / "out")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == diff_id.hex
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) < 100_000


def test_unexpected_layers_are_refused(refs: list[str], tmp_path: Path) -> None:
    refs.append(REF)
    (tmp_path / "in").mkdir()
    layer = import_tiny_image(tmp_path / "in", REF)
    for number, below in enumerate(((layer, layer), (DiffId("0" * 64),))):
        with pytest.raises(ToolError, match=r"its 1 layers do not begin with the [12] known ones"):
            copy_upper_layers(REF, below, tmp_path / str(number))
    assert copy_upper_layers(REF, (layer,), tmp_path / "none") == ()


def test_missing_policy_is_bypassed_and_present_policy_is_obeyed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, refs: list[str]
) -> None:
    (tmp_path / "in").mkdir()
    refs.append(REF)
    monkeypatch.setattr(skopeo, "_POLICIES", ())
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    import_tiny_image(tmp_path / "in", REF)
    assert "--insecure-policy" in skopeo.skopeo_argv()
    (tmp_path / "containers").mkdir()
    (tmp_path / "containers/policy.json").write_text('{"default": [{"type": "reject"}]}')
    assert "--insecure-policy" not in skopeo.skopeo_argv()


@pytest.mark.parametrize(
    ("ref", "asked"),
    [
        ("host:5000/a/b:tag@sha256:0", "host:5000/a/b@sha256:0"),
        ("host:5000/b@sha256:0", "host:5000/b@sha256:0"),
        ("b:tag@sha256:0", "b@sha256:0"),
        ("host/b:tag", "host/b:tag"),
    ],
)
def test_tag_is_dropped_from_a_digest_reference(ref: str, asked: str) -> None:
    assert skopeo.drop_tag(ref) == asked


def test_blob_info_cache_is_kept_in_memory_if_disabled(tmp_path: Path, refs: list[str]) -> None:
    """Of every version: else a push of one line flushes a note of each layer to the disk."""
    refs.append(REF)
    (tmp_path / "in").mkdir()
    import_tiny_image(tmp_path / "in", REF)
    for env, kept in ((skopeo.skopeo_env_without_blob_cache(), False), (None, True)):
        argv = (*skopeo.skopeo_argv(), "--debug", "copy", f"dir:{tmp_path}/in", f"dir:{tmp_path}/{kept}")
        message = run(Command(argv=argv, env=env)).stderr.decode()
        assert ("using a memory-only cache" in message) != kept


def test_root_login_is_preferred_over_disabling_the_blob_info_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(skopeo, "_ROOTS_LOGIN", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert skopeo.skopeo_env_without_blob_cache() == {}
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    assert skopeo.skopeo_env_without_blob_cache()
