"""Storage of podman and buildah in a folder of its own, with an image store beside it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.containers import container_environment, remove_with_mounts

_KEPT = ("PATH", "LANG", "SSL_CERT_FILE", "BUILDAH_ISOLATION")
_STORAGE = """[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
[storage.options]
additionalimagestores = [{stores}]
[storage.options.overlay]
skip_mount_home = "true"
"""


@dataclass(frozen=True)
class StorageHost:
    """``folder`` has a short path; ``before`` runs commands as another user."""

    folder: Path
    before: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        return self.folder / "store"

    def prepare(self, registry: str = "", *, stores: bool = True) -> None:
        containers = self.folder / "home/.config/containers"
        containers.mkdir(parents=True, exist_ok=True)
        (self.folder / "run").mkdir(mode=0o700, exist_ok=True)
        text = _STORAGE.format(folder=self.folder, stores=f'"{self.store}"' if stores else "")
        (self.folder / "storage.conf").write_text(text)
        if registry:
            (containers / "registries.conf").write_text(f'[[registry]]\nlocation = "{registry}"\ninsecure = true\n')
        (containers / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        self.env.update({name: os.environ[name] for name in _KEPT if name in os.environ})
        self.env.update(container_environment(self.folder))
        self.env["PYTHONPATH"] = str(Path(__file__).parents[2])
        self.env["HOME"] = str(self.folder / "home")
        self.env["XDG_RUNTIME_DIR"] = str(self.folder / "run")
        self.env["CONTAINERS_STORAGE_CONF"] = str(self.folder / "storage.conf")

    def tool(self, *argv: str, code: int = 0, stdin: str | None = None) -> str:
        """Run a tool; return its output, of both streams if it is to fail."""
        done = subprocess.run(
            (*self.before, *argv),
            env=self.env,
            cwd=self.folder,
            capture_output=True,
            text=True,
            input=stdin,
            timeout=120,
        )
        assert done.returncode == code, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout if code == 0 else done.stdout + done.stderr

    def run(self, image: str, *argv: str, options: tuple[str, ...] = ()) -> str:
        return self.tool("podman", "run", "--rm", "--network=none", *options, image, *argv)

    def remove(self) -> None:
        remove_with_mounts(self.folder)
