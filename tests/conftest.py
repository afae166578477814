"""Settings of every test: which share a process, and properties are given the time they take."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ours", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

_TESTS = Path(__file__).parent
_ONE_AT_A_TIME = ("docs", "reference")  # they use the user's storage, and ports that documentation names


def pytest_itemcollected(item: pytest.Item) -> None:
    """Tests of one file run in one process, for they share what is costly; those of some folders in the same one."""
    path = item.path.relative_to(_TESTS).as_posix() if item.path.is_relative_to(_TESTS) else item.path.name
    folder = path.partition("/")[0]
    item.add_marker(pytest.mark.xdist_group("one at a time" if folder in _ONE_AT_A_TIME else path))
