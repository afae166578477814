"""Settings for debuggers of editors: where to attach, and which folder of the container is which of the project."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from buildkit.errors import DefinitionError

VSCODE = ".vscode/launch.json"
PYCHARM = ".run"  # the folder that JetBrains' editors read
_COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
_COMMA = re.compile(r'("(?:\\.|[^"\\])*")|,(?=\s*[\]}])')


@dataclass(frozen=True, slots=True, kw_only=True)
class DebugTarget:
    """An application that listens for a debugger; ``folders`` are pairs of the project's and the container's."""

    name: str
    port: int
    folders: tuple[tuple[str, str], ...]


def render_launch(targets: Sequence[DebugTarget], present: str = "") -> str:
    """Return VS Code's ``launch.json`` with a configuration for each target.

    Of the ``present`` text, which may have comments and trailing commas, other configurations are kept. Raises
    DefinitionError for a text that is none.
    """
    document: dict[str, Any] = _parse(present) if present.strip() else {"version": "0.2.0"}
    ours = [_configuration(target) for target in targets]
    names = {item["name"] for item in ours}
    kept: list[dict[str, Any]] = document.get("configurations", [])
    others = [item for item in kept if item.get("name") not in names]
    return json.dumps({**document, "configurations": [*others, *ours]}, indent=4, ensure_ascii=False) + "\n"


def write_launch(folder: Path, targets: Sequence[DebugTarget]) -> Path:
    """Write the settings of VS Code for the project at ``folder``; return the path. Raises DefinitionError."""
    path = folder / VSCODE
    try:
        present = path.read_text("utf-8") if path.exists() else ""
    except UnicodeDecodeError:
        raise DefinitionError(f"{VSCODE}: is not UTF-8 text", hint="mend it, or move it away") from None
    text = render_launch(targets, present)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, "utf-8")
    return path


def render_run_configuration(target: DebugTarget) -> str:
    """Return PyCharm's run configuration *Attach to DAP* for a target, as XML."""
    component = ET.Element("component", name="ProjectRunConfigurationManager")
    about = {"default": "false", "name": f"dev: {target.name}", "type": "PythonDapAttachConfiguration"}
    configuration = ET.SubElement(component, "configuration", about)
    ET.SubElement(configuration, "option", name="remoteAddress", value=f"127.0.0.1:{target.port}")
    settings = ET.SubElement(configuration, "PathMappingSettings")
    mappings = ET.SubElement(ET.SubElement(settings, "option", name="pathMappings"), "list")
    for source, place in _deepest_first(target):
        attributes = {"local-root": f"$PROJECT_DIR$/{source}", "remote-root": place}
        ET.SubElement(mappings, "mapping", attributes)
    ET.SubElement(configuration, "method", v="2")
    ET.indent(component)
    return ET.tostring(component, encoding="unicode") + "\n"


def write_run_configurations(folder: Path, targets: Sequence[DebugTarget]) -> list[Path]:
    """Write a run configuration of PyCharm for each target of the project at ``folder``; return the paths."""
    paths = [folder / PYCHARM / f"dev {target.name}.run.xml" for target in targets]
    for path, target in zip(paths, targets, strict=True):
        path.parent.mkdir(exist_ok=True)
        path.write_text(render_run_configuration(target), "utf-8")
    return paths


def _deepest_first(target: DebugTarget) -> list[tuple[str, str]]:
    """Return the pairs of folders in an order in which the first mapping that fits is the right one."""
    return sorted(target.folders, key=lambda pair: (-pair[1].count("/"), pair[1]))


def _configuration(target: DebugTarget) -> dict[str, Any]:
    """Return an ``attach`` of debugpy (https://github.com/microsoft/debugpy/wiki/Debug-configuration-settings)."""
    return {
        "name": f"dev: {target.name}",
        "type": "debugpy",
        "request": "attach",
        "connect": {"host": "127.0.0.1", "port": target.port},
        "pathMappings": [
            {"localRoot": f"${{workspaceFolder}}/{source}", "remoteRoot": place}
            for source, place in _deepest_first(target)
        ],
        "justMyCode": False,
    }


def _parse(text: str) -> dict[str, Any]:
    plain = _COMMA.sub(lambda found: found[1] or "", _COMMENT.sub(lambda found: found[1] or "", text))
    try:
        document: dict[str, Any] = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise DefinitionError(f"{VSCODE}: is not JSON: {error}", hint="mend it, or move it away") from None
    configurations = document.get("configurations", []) if isinstance(document, dict) else None
    if not isinstance(configurations, list) or not all(isinstance(item, dict) for item in configurations):
        raise DefinitionError(f"{VSCODE}: is not a file of launch configurations", hint="mend it, or move it away")
    return document
