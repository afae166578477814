"""podman, for the tests of single images."""

from __future__ import annotations

import os

import pytest

from tests.containers import container_environment
from tests.reference.engine import Podman


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Podman:
    return Podman(env=dict(os.environ) | container_environment(tmp_path_factory.mktemp("podman")))
