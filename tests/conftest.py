"""Settings of every test: properties are given the time they take, and say how to repeat a failure.

They try the same examples each time, so that the same code passes or fails; with BUILDKIT_TEST_EXPLORE other ones.
"""

import os
import signal

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "ours",
    deadline=None,
    print_blob=True,
    derandomize="BUILDKIT_TEST_EXPLORE" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")

# a shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED_HOST = ("tests/docs", "tests/reference")  # they use the user's storage and the ports that documentation names
_LONG = ("tests/e2e", "tests/containerfile", "tests/tools", "tests/resolve")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Group tests for pytest-xdist: one worker runs each file, and one worker all tests that share the host.

    Groups start in the order of their tests, so those that take longest come first.
    """
    if not config.pluginmanager.hasplugin("xdist"):
        return
    for item in items:
        folder = _folder(config, item)
        group = "shared-host" if folder in _SHARED_HOST else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: _rank(_folder(config, item)))


def _folder(config: pytest.Config, item: pytest.Item) -> str:
    return "/".join(item.path.relative_to(config.rootpath).parts[:2])


def _rank(folder: str) -> int:
    order = (*_SHARED_HOST, *_LONG)
    return order.index(folder) if folder in order else len(order)
