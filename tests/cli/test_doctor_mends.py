"""The doctor names commands as the user called it: whoever has no noxfile yet types no `nox`."""

from __future__ import annotations

from buildkit.cli.doctor import render_diagnoses
from buildkit.command_names import CommandNames, naming_commands
from buildkit.doctor.diagnosis import note


def test_mending_commands_are_named_as_the_user_types_them() -> None:
    findings = (note("image-store", "podman does not see it", "imports", "nox -s doctor -- --enable-store"),)
    assert "mend:  nox -s doctor -- --enable-store\n" in render_diagnoses(findings, as_json=False)
    with naming_commands(CommandNames(console=True)):
        assert "mend:  xoe-buildkit doctor --enable-store\n" in render_diagnoses(findings, as_json=False)
