"""Roots are pinned by the digest that a registry gives their tag."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildkit.adopt.pinning import find_digest
from tests.e2e.tinyroot import push_root
from tests.registry import serve_registry


@pytest.mark.tools
def test_digest_is_that_of_the_tag_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "registry").mkdir()
    with serve_registry(tmp_path / "registry") as host:
        settings = tmp_path / ".config/containers/registries.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text(f'[[registry]]\nlocation = "{host}"\ninsecure = true\n')
        monkeypatch.setenv("HOME", str(tmp_path))
        (tmp_path / "root").mkdir()
        name, _, digest = push_root(host, tmp_path / "root", os.environ).partition("@")
        assert find_digest(f"{name}:latest") == digest
        assert find_digest(f"{name}:absent") == ""
    assert find_digest(f"{name}:latest") == "", "a registry that does not answer is left to a person"


@pytest.mark.parametrize("name", ["", "no registry", "UPPER/case"])
def test_name_that_is_none_has_no_digest(name: str) -> None:
    assert find_digest(name) == ""
