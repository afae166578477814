"""How the commands of a container are kept apart from the host: the kind, and the namespaces that buildah starts in.

- ``oci`` (and ``rootless``): a runtime makes all namespaces, the network's too (``--network none``).
- ``chroot``: buildah itself makes a mount namespace only, shares everything else, and refuses ``--network``. So it is
  started by unshare(1) within its own processes, IPC, mounts and devices, and without network in an empty network
  namespace; as an ordinary user within the user namespace of ``buildah unshare``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from buildkit.lazy_dataclass import dataclass

_DEVICES = Path("/dev")
_NAMESPACES = ("--mount", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc")
_LOST = "CAP_SYS_CHROOT"  # with it, a process leaves a chroot(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Isolation:
    """A kind of isolation (``oci``, ``rootless`` or ``chroot``) and why it was chosen.

    ``shared`` says why a command sees processes, devices and shared memory of the host; it is empty if none does.
    """

    kind: str
    why: str
    shared: str = ""

    @property
    def is_private(self) -> bool:
        """Whether commands see neither the host's processes nor each other's shared memory."""
        return not self.shared

    def __str__(self) -> str:
        private = "private processes, IPC and /dev" if self.is_private else f"NOT private: {self.shared}"
        return f"{self.kind} isolation ({self.why}); {private}"

    def options(self, *, network: bool) -> tuple[str, ...]:
        """Return the options of ``buildah run``."""
        if self.kind == "chroot":
            return ("--isolation", "chroot", "--cap-drop", _LOST)
        return ("--isolation", self.kind, "--network", "host" if network else "none")

    def prefix(self, sources: Iterable[Path], *, network: bool) -> tuple[str, ...]:
        """Return the command that starts buildah in its namespaces; ``sources`` are the host's folders to mount."""
        if self.kind != "chroot" or (network and not self.is_private):
            return ()
        own_network = () if network else ("--net",)
        own = _NAMESPACES if self.is_private else ()
        kept = [f"--keep={path}" for source in sources if (path := source.resolve()).is_relative_to(_DEVICES)]
        private = ("--private", *kept) if self.is_private else ()
        worker = (sys.executable, "-I", "-c", worker_text("namespace_worker"), *own_network, *private, "--")
        return in_user_namespace(("unshare", *own_network, *own, "--", *worker))


def in_user_namespace(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs ``argv`` as root of the user's containers; root itself needs none."""
    return tuple(argv) if os.geteuid() == 0 else ("buildah", "unshare", "--", *argv)


@cache
def worker_text(name: str) -> str:
    """Return the text of a program of this package, which runs in an interpreter of its own."""
    return (files("buildkit.tools") / f"{name}.py").read_text("utf-8")
