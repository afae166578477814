"""The table of commands."""

from __future__ import annotations

import inspect
from collections import Counter

import pytest

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS, CliCommand

SESSIONS = {
    "audit",
    "audit-deps",
    "audit-running",
    "bench-build",
    "bench-dev",
    "bench-serve",
    "build",
    "cache",
    "dashboards",
    "derive",
    "optimise",
    "dev",
    "devcontainer",
    "doctor",
    "drift",
    "explain",
    "export-containerfile",
    "gpus",
    "graph",
    "init",
    "lock",
    "matrix",
    "monitor",
    "observe",
    "parity",
    "plan",
    "profile",
    "push-models",
    "reproduce",
    "rollout",
    "sbom",
    "scale",
    "scan-models",
    "schema",
    "timings",
    "top",
    "up",
    "verify-image",
    "watch",
}


def test_names_of_commands_are_those_that_noxfiles_and_ci_rely_on() -> None:
    assert {command.name for command in COMMANDS} == SESSIONS
    assert [command.name for command in STAGE_COMMANDS] == ["build", "push", "run"]
    assert max(Counter(command.name for command in COMMANDS).values()) == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_command_loads_a_function_of_folder_and_arguments(command: CliCommand) -> None:
    assert len(inspect.signature(command.load()).parameters) == 2
    assert command.summary.partition(" (")[0].rstrip(".")
    assert "\n" not in command.summary


@pytest.mark.parametrize("command", STAGE_COMMANDS, ids=lambda command: command.name)
def test_command_of_a_stage_loads_a_function_of_folder_stage_and_arguments(command: CliCommand) -> None:
    assert list(inspect.signature(command.load()).parameters)[1:] == ["stage", "arguments"]
    assert "{stage}" in command.summary
