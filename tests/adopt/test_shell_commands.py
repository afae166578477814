"""Shell of RUN instructions as simple commands, or as something that is not certain."""

from __future__ import annotations

import pytest

from buildkit.adopt.commands import split_commands
from buildkit.declare.instructions import read_containerfile


def split(text: str) -> tuple[tuple[str, ...], ...] | None:
    ((instruction,),) = [stage.instructions for stage in read_containerfile(f"FROM a\nRUN {text}", "f").stages]
    return split_commands(instruction)


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (
            "apt-get update && apt-get install -y a b && rm -rf /var/lib/apt/lists/*",
            (("apt-get", "update"), ("apt-get", "install", "-y", "a", "b"), ("rm", "-rf", "/var/lib/apt/lists/*")),
        ),
        ("set -eux; pip install 'a>=1,<2' \"b[x]\"", (("pip", "install", "a>=1,<2", "b[x]"),)),
        ('["pip", "install", "a && b"]', (("pip", "install", "a && b"),)),
        ('["/bin/bash", "-ec", "a; b c"]', (("a",), ("b", "c"))),
        ("DEBIAN_FRONTEND=noninteractive apt-get install -y a", (("apt-get", "install", "-y", "a"),)),
        ("curl -fsSL https://x | sh -s -- -y", (("|", "curl", "-fsSL", "https://x", "|", "sh", "-s", "--", "-y"),)),
        ("--mount=type=cache,target=/x pip install a", (("pip", "install", "a"),)),
        ("a \\\n  # why\n  && b", (("a",), ("b",))),
        ("<<EOF\n# c\na b\n\nc \\\n d\nEOF", (("a", "b"), ("c", "d"))),
        ("bash -e <<'EOF'\na\nEOF", (("a",),)),
    ],
)
def test_commands(text: str, commands: tuple[tuple[str, ...], ...]) -> None:
    found = split(text)
    assert found is not None
    assert tuple(tuple(word for word in command if word != "|" or command[0] == "|") for command in found) == commands


@pytest.mark.parametrize(
    "text",
    [
        "for i in a b; do c; done",
        "(a; b)",
        "a > b",
        "if x; then y; fi",
        "echo 'a",
        "cat <<EOF > /etc/a\nb\nEOF",
        "a < b",
    ],
)
def test_what_is_not_certain(text: str) -> None:
    assert split(text) is None
