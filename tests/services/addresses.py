"""Addresses of running services."""

from __future__ import annotations

from buildkit.running.environment import RunningEnvironment
from buildkit.services.state import find_states


def address_of(environment: RunningEnvironment, name: str) -> str:
    """Return the address of a service's first port on this host, as ``127.0.0.1:8000``."""
    return next(state for state in find_states(environment, awaited=True) if state.name == name).addresses[0]
