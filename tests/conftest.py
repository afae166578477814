"""Settings of every test: properties are given the time they take, and say how to repeat a failure.

They try the same examples each time, so that the same code passes or fails; with BUILDKIT_TEST_EXPLORE other ones.
"""

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile(
    "ours",
    deadline=None,
    print_blob=True,
    derandomize="BUILDKIT_TEST_EXPLORE" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")

gc.disable()  # thirteen thousand tests are made, and none goes: looking for garbage is a third of that

# a shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)

# of all processes of the suite, whatever home they are given; the user's own stays as it is
os.environ.setdefault("BUILDKIT_LEDGER_KEY", str(Path(tempfile.gettempdir()) / f"buildkit-tests-{os.geteuid()}.key"))

# no test asks with the user's own token, or takes what the user has fetched from the model hub
os.environ["HF_HOME"] = str(Path(tempfile.gettempdir()) / f"buildkit-tests-{os.geteuid()}-no-hub")
for name in ("HF_TOKEN", "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "HUGGING_FACE_HUB_TOKEN"):
    os.environ.pop(name, None)

# jsonschema would make grammars of IRIs, a second of every worker; no test asks it to check formats
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]

_SHARED_HOST = ("tests/docs", "tests/reference")  # they use the user's storage and the ports that documentation names
_NICE = os.nice(0)
_LONG = ("tests/e2e", "tests/databases", "tests/containerfile", "tests/tools", "tests/resolve")


class _Scheduler(LoadScopeScheduling):
    """Gives each file to one worker, and all tests that share the host to one. (pytest 9.2 ignores xdist's groups.)"""

    def _split_scope(self, nodeid: str) -> str:
        return "shared host" if _shares_host(nodeid) else nodeid.partition("::")[0]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a worker give way to the one whose tests share the host: it has most to do in one piece."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _shares_host(item.nodeid) and os.nice(0) == _NICE:
        os.nice(5)


def _shares_host(nodeid: str) -> bool:
    return nodeid.startswith(tuple(f"{folder}/" for folder in _SHARED_HOST))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    """Return the scheduler of a run with several workers."""
    return _Scheduler(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """Have each worker collect other folders first, so that none compiles what another has compiled."""
    worker = getattr(config, "workerinput", None)
    if worker and config.args == config.getini("testpaths"):
        parts = sorted(map(str, (*Path("tests").glob("[!_.]*/"), *Path("tests").glob("test_*.py"))))
        first = len(parts) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = parts[first:] + parts[:first]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what takes longest: with --no-loadscope-reorder, files start in the order of their tests."""
    items.sort(key=lambda item: _rank("/".join(item.path.relative_to(item.config.rootpath).parts[:2])))


def pytest_collection_finish() -> None:
    """Collect garbage from here on, but do not look through what is collected so far: it stays until the end."""
    gc.freeze()
    gc.enable()


def _rank(folder: str) -> tuple[int, str]:
    order = (*_SHARED_HOST, *_LONG)
    return order.index(folder) if folder in order else len(order), folder
