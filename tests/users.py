"""An ordinary user with a range of subordinate ids: root creates one, anybody else is one."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]


@contextmanager
def ordinary_user(name: str) -> Iterator[pwd.struct_passwd]:
    """Create a user of that name, who is removed afterwards; without root yield the current one."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid())
        return
    subprocess.run(("userdel", "--force", "--remove", name), capture_output=True)
    subprocess.run(("useradd", "--create-home", "--add-subids-for-system", "--shell", "/bin/sh", name), check=True)
    account = pwd.getpwnam(name)
    if f"{name}:" not in Path("/etc/subuid").read_text():
        for option in ("--add-subuids", "--add-subgids"):
            subprocess.run(("usermod", option, "700000-765535", name), check=True)
    yield account
    subprocess.run(("userdel", "--force", "--remove", name), check=True, capture_output=True)


def become(user: pwd.struct_passwd) -> tuple[str, ...]:
    """Return the words before a command that run it as the user."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--init-groups", "--")


def may_read(user: pwd.struct_passwd, path: str) -> bool:
    """Whether the user may read a file."""
    return subprocess.run((*become(user), "test", "-r", path)).returncode == 0


@contextmanager
def python_of(user: pwd.struct_passwd) -> Iterator[str]:
    """Yield a Python with buildkit that the user may run: this one, or the system's with an installation of its own."""
    if may_read(user, sys.executable) and may_read(user, str(_REPOSITORY / "pyproject.toml")):
        yield sys.executable
        return
    venv = Path("/var/tmp") / f"{user.pw_name}-{os.getpid()}"  # where every user may look
    uv = (sys.executable, "-m", "uv")
    subprocess.run((*uv, "venv", "--quiet", "--python", "/usr/bin/python3", str(venv)), check=True)
    argv = (*uv, "pip", "install", "--quiet", "--link-mode=copy", "--python", f"{venv}/bin/python", str(_REPOSITORY))
    subprocess.run(argv, check=True)
    yield f"{venv}/bin/python"
    shutil.rmtree(venv)
