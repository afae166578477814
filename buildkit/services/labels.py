"""The labels of what an environment has in podman, beside those of `running.labels`."""

from __future__ import annotations

from buildkit.running.environment import RunningEnvironment
from buildkit.running.labels import ENVIRONMENT, PREFIX, PROJECT

CHECKOUT = f"{PREFIX}.checkout"  # the folder of the project
SUM = f"{PREFIX}.sum"  # of a secret's value, keyed; empty for a generated one
FINGERPRINT = f"{PREFIX}.fingerprint"  # of how a container was started


def environment_labels(environment: RunningEnvironment) -> tuple[tuple[str, str], ...]:
    """Return the labels that everything of an environment has, whichever checkout it belongs to."""
    return ((PROJECT, environment.project), (ENVIRONMENT, environment.name))
