"""Settings for debuggers of editors."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from buildkit.develop.debug_settings import DebugTarget, render_launch, write_launch, write_run_configurations
from buildkit.errors import DefinitionError

TARGET = DebugTarget(
    name="app", port=5678, folders=(("stages/runtime/app", "/app"), ("stages/development/tests", "/app/tests"))
)
PRESENT = """// Use IntelliSense to learn about possible attributes.
{
    "version": "0.2.0",
    "configurations": [
        { "name": "mine", "url": "http://127.0.0.1/*no comment*/" }, /* kept */
        { "name": "dev: app", "port": 1 },
    ],
}
"""


def test_launch_has_the_deepest_folder_first() -> None:
    (only,) = json.loads(render_launch([TARGET]))["configurations"]
    assert only["connect"] == {"host": "127.0.0.1", "port": 5678}
    assert only["pathMappings"] == [
        {"localRoot": "${workspaceFolder}/stages/development/tests", "remoteRoot": "/app/tests"},
        {"localRoot": "${workspaceFolder}/stages/runtime/app", "remoteRoot": "/app"},
    ]


def test_pycharm_attaches_with_the_same_folders(tmp_path: Path) -> None:
    (path,) = write_run_configurations(tmp_path, [TARGET])
    assert path == tmp_path / ".run/dev app.run.xml"
    configuration = ET.parse(path).getroot()[0]
    assert (configuration.get("type"), configuration.get("name")) == ("PythonDapAttachConfiguration", "dev: app")
    assert [option.get("value") for option in configuration.findall("option")] == ["127.0.0.1:5678"]
    mappings = [(one.get("local-root"), one.get("remote-root")) for one in configuration.iter("mapping")]
    assert mappings == [
        ("$PROJECT_DIR$/stages/development/tests", "/app/tests"),
        ("$PROJECT_DIR$/stages/runtime/app", "/app"),
    ]


def test_other_configurations_are_kept_and_writing_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / ".vscode").mkdir()
    (tmp_path / ".vscode/launch.json").write_text(PRESENT)
    path = write_launch(tmp_path, [TARGET])
    first = path.read_text()
    mine, ours = json.loads(first)["configurations"]
    assert mine == {"name": "mine", "url": "http://127.0.0.1/*no comment*/"}
    assert ours["name"] == "dev: app"
    assert ours["connect"]["port"] == 5678
    write_launch(tmp_path, [TARGET])
    assert path.read_text() == first


@pytest.mark.parametrize("text", ["{", "[]", "[" * 100_000, "\xff", '{"configurations": [1]}'])
def test_what_is_no_launch_file_is_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / ".vscode/launch.json"
    path.parent.mkdir()
    path.write_text(text, "latin-1")
    with pytest.raises(DefinitionError):
        write_launch(tmp_path, [TARGET])
    assert path.read_text("latin-1") == text
