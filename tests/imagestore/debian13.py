"""podman and buildah of Debian 13 in a root of their own on this kernel, made once and kept beside temporary files."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.imagestore.hosts import StorageHost
from tests.once import make_kept

DEBIAN_13 = [pytest.mark.network, pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts another root")]
_PACKAGES = (
    "podman", "buildah", "skopeo", "runc", "conmon", "netavark", "nftables", "passt", "uidmap", "mount", "git",
    "ca-certificates", "python3",
)  # fmt: skip
_HOLD = """set -e
mount --bind "$0" "$0"
mount -t proc proc "$0/proc"
mount --rbind /sys "$0/sys"
mount --rbind /dev "$0/dev"
mount -t tmpfs tmpfs "$0/run"
mount --bind /home "$0/home"
for file in passwd group subuid subgid; do mount --bind "/etc/$file" "$0/etc/$file"; done
mknod -m 666 "$0/run/tun" c 10 200  # networks of ordinary users; some hosts close it
[ ! -e /dev/net/tun ] || mount --bind "$0/run/tun" "$0/dev/net/tun"
mkdir -p "$0$1"
mount --rbind "$1" "$0$1"
mkdir -p "$0/old"
cd "$0"
pivot_root . old  # a runtime's exec would escape from a mere chroot
umount --lazy /old
echo ready
exec cat
"""


def ensure_root(*more: str) -> Path:
    """Return the root, with ``more`` packages; it takes a minute to make, the first time."""
    names = ",".join((*_PACKAGES, *more))
    sum_of_names = hashlib.sha256(names.encode()).hexdigest()[:8]

    def make(root: Path) -> None:
        options = ("--variant=essential", f"--include={names}", '--aptopt=APT::Install-Recommends "0"')
        subprocess.run(("mmdebstrap", "--quiet", *options, "trixie", str(root)), check=True)

    return make_kept(f"trixie-{sum_of_names}", make)


@contextmanager
def inside(root: Path, host: StorageHost) -> Iterator[StorageHost]:
    """Yield the host with the tools of the root, which sees only its folder and /home, in mounts of its own.

    They run as whoever ``host.before`` says.
    """
    argv = ("unshare", "--mount", "--propagation=private", "sh", "-c", _HOLD, str(root), str(host.folder))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"ready\n"
        enter = ("nsenter", f"--target={holder.pid}", "--mount", "--")
        folder = ("sh", "-c", 'cd "$0" && exec "$@"', str(host.folder))
        host.env["PODMAN_IGNORE_CGROUPSV1_WARNING"] = "1"
        try:
            yield StorageHost(host.folder, before=(*enter, *host.before, *folder), env=host.env)
        finally:
            holder.stdin.close()
