"""The version of the rules changes exactly when another scan could find something else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import buildkit.scan
from buildkit.scan.version import digest_of, rules_version


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    ours = str(Path(buildkit.scan.__file__).parent)
    return Path(shutil.copytree(ours, tmp_path / "scan", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("name", ["context.py", "pickle/allowed.txt", "pickle/denied.txt", "formats/keras.py"])
def test_change_of_any_source_or_list_changes_version(copy: Path, name: str) -> None:
    before = digest_of(str(copy))
    with (copy / name).open("a") as file:
        file.write("\n# more\n")
    assert digest_of(str(copy)) != before


def test_file_names_change_version_but_location_and_bytecode_do_not(copy: Path, tmp_path: Path) -> None:
    before = digest_of(str(copy))
    assert digest_of(str(Path(buildkit.scan.__file__).parent)) == before, "wherever it is installed"
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__/context.pyc").write_bytes(b"x")
    assert digest_of(str(copy)) == before
    (copy / "context.py").rename(copy / "contexts.py")
    assert digest_of(str(copy)) != before


def test_allowed_names_change_version_in_any_order() -> None:
    assert rules_version(["a.b", "c.d"]) == rules_version(["c.d", "a.b"]) != rules_version(["a.b"])
    assert rules_version() not in {rules_version(["a.b"]), rules_version([""])}
