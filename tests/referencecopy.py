"""A copy of the project of this repository that a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def copy_reference(folder: Path) -> Path:
    """Copy what sessions read of the project into ``folder``, which must not exist; return it."""
    for name in ("stages", "requirements"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("pyproject.toml", "services.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder
