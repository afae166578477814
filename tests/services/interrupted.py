"""Start an environment as a program of its own, and say which services have started, for a test that interrupts it."""

from __future__ import annotations

import sys
from pathlib import Path

from buildkit.cli.guard import guarded
from buildkit.declare.services_file import load_services
from buildkit.events import Event, StepFinished
from buildkit.running.environment import make_environment
from buildkit.services.start import StartOptions, start_environment
from tests.services.conftest import describe


def tell(event: Event) -> None:
    if isinstance(event, StepFinished) and event.phase == "start":
        print(f"started {event.step}", flush=True)


def main() -> None:
    folder, project = Path(sys.argv[1]), sys.argv[2]
    environment = make_environment(load_services(folder, ("server",)), "u", describe, project=project)
    start_environment(environment, StartOptions(folder=folder), tell)


if __name__ == "__main__":
    sys.exit(guarded(main))
