"""Messages name commands as the user can type them."""

import pytest

from buildkit.cli.commands import COMMANDS, STAGE_COMMANDS
from buildkit.command_names import OF_STAGES, CommandNames, name_command, name_commands, naming_commands

HINT = "run: nox -s lock -- --upgrade, or nox -s build-my-app; `nox -s run-STAGE`, nox -s bench-build -- --scale"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (CommandNames(), HINT),
        (CommandNames("x-"), HINT.replace("nox -s ", "nox -s x-")),
        (
            CommandNames(console=True),
            (
                "run: xoe-buildkit lock --upgrade, or xoe-buildkit build my-app; `xoe-buildkit run STAGE`, "
                "xoe-buildkit bench-build --scale"
            ),
        ),
    ],
)
def test_message_names_what_can_be_typed(names: CommandNames, expected: str) -> None:
    with naming_commands(names):
        assert name_commands(HINT) == expected
    assert name_commands(HINT) == HINT
    assert name_command("run", "app") == "nox -s run-app"


def test_sessions_of_stages_are_told_from_others() -> None:
    assert tuple(command.name for command in STAGE_COMMANDS) == OF_STAGES
    named_like = [command.name for command in COMMANDS if command.name.partition("-")[0] in OF_STAGES]
    assert named_like == ["build", "push-models"]  # the last is of the models unless a stage has that name
