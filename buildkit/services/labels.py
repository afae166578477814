"""The labels by which containers, networks and volumes of an environment are found."""

from __future__ import annotations

from buildkit.running.environment import RunningEnvironment

_PREFIX = "org.xoe.buildkit"
SERVICE = f"{_PREFIX}.service"
CHECKOUT = f"{_PREFIX}.checkout"  # the folder of the project
SUM = f"{_PREFIX}.sum"  # of a secret's value, keyed; empty for a generated one
FINGERPRINT = f"{_PREFIX}.fingerprint"  # of how a container was started


def environment_labels(environment: RunningEnvironment) -> tuple[tuple[str, str], ...]:
    """Return the labels that everything of an environment has, whichever checkout it belongs to."""
    return ((f"{_PREFIX}.project", environment.project), (f"{_PREFIX}.environment", environment.name))
