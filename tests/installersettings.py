"""Keep the host's settings of pip and uv out of a test."""

import os

import pytest


def clear_installer_settings(patch: pytest.MonkeyPatch) -> None:
    """Remove the variables of pip and uv, and have pip read no file."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        patch.delenv(name)
    patch.setenv("PIP_CONFIG_FILE", os.devnull)
