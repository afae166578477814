"""The virtual environment that wheels are installed into, as members of a layer."""

from __future__ import annotations

from collections.abc import Iterator

from buildkit.declare.target import Target
from buildkit.layers.tar.member import Member


def prefix_members(target: Target) -> Iterator[Member]:
    """Yield the virtual environment (PEP 405), as ``python -m venv --without-pip`` makes it, without activation."""
    prefix = target.prefix.lstrip("/")
    home = target.interpreter.rpartition("/")[0]
    config = (
        f"home = {home}\ninclude-system-site-packages = {'true' if target.sees_system else 'false'}\n"
        f"version = {target.python}\nexecutable = {target.interpreter}\n"
    ).encode()
    yield Member(path=f"{prefix}/bin/python", kind="symlink", target=target.interpreter)
    yield Member(path=f"{prefix}/bin/python3", kind="symlink", target="python")
    yield Member(path=f"{prefix}/bin/python{target.minor}", kind="symlink", target="python")
    yield Member(path=f"{prefix}/include", kind="directory")
    yield Member(path=target.site_packages, kind="directory")
    yield Member(path=f"{prefix}/lib64", kind="symlink", target="lib")
    yield Member(path=f"{prefix}/pyvenv.cfg", size=len(config), content=lambda: iter((config,)))
