"""The state of a service behind a proxy, and the proxy's configuration: two files that agree."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from buildkit.rollout.haproxy import render_haproxy
from buildkit.rollout.state import RolloutState, begin, follow, parse_state, render_state
from buildkit.running.environment import RunningEnvironment, RunningService
from buildkit.running.replicas import ProxiedPlan
from buildkit.store.file_locks import acquire_lock
from buildkit.store.ledger_key import key_file

_FOLDER = "proxies"
_RUN = "run"  # what the container sees
_READABLE = 0o644


def plan_of(service: RunningService) -> ProxiedPlan:
    """Return what stands behind a proxy."""
    assert service.proxied is not None  # noqa: S101 - callers choose proxies
    return service.proxied


def find_proxies(environment: RunningEnvironment) -> tuple[RunningService, ...]:
    """Return the services that are proxies."""
    return tuple(service for service in environment.services if service.proxied)


def state_file(service: RunningService) -> Path:
    """Return the file of a service's state."""
    return key_file().parent / _FOLDER / service.container.name / "state.json"


def load_state(service: RunningService, now: Callable[[], float] = time.time) -> RolloutState:
    """Return the state of a service, as declared if there is none. Raises DefinitionError for a file that is none."""
    file, split = state_file(service), plan_of(service).split
    try:
        state = parse_state(file.read_bytes().decode("utf-8", "replace"), str(file))
    except FileNotFoundError:
        return begin(tuple(sorted(split)), now())
    return follow(state, tuple(sorted(split)), now())


@contextmanager
def changing(service: RunningService) -> Iterator[Callable[[RolloutState], str]]:
    """Yield a function that writes a state with its configuration, and returns that.

    Whoever changes a state reads it within this block: one process does at a time.
    """
    folder = state_file(service).parent
    (folder / _RUN).mkdir(parents=True, exist_ok=True)
    (folder / _RUN).chmod(0o755)
    with (folder / "lock").open("w") as lock:
        acquire_lock(lock.fileno(), fcntl.LOCK_EX, lambda: None, lambda: False)

        def write(state: RolloutState) -> str:
            text = render_configuration(service, state)
            _replace(folder / _RUN / "haproxy.cfg", text)
            _replace(folder / "state.json", render_state(state))
            return text

        yield write


def render_configuration(service: RunningService, state: RolloutState) -> str:
    """Return the proxy's configuration in a state."""
    return render_haproxy(plan_of(service).proxied(state, service.container.networks[0].addresses))


def _replace(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    with new.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fchmod(out.fileno(), _READABLE)
        os.fsync(out.fileno())
    new.replace(path)
