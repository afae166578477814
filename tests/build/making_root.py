"""Make a root and say what is done, for a test that kills this: ``LEASES PIN=VERSION…``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from buildkit.build.root_folders import root_folder
from buildkit.locks.pins import AptPin
from buildkit.store.leases import Leases
from buildkit.tools.mmdebstrap import RootSpec, Workplace, stream_root


def say(text: str) -> None:
    print(text, flush=True)


leases, *pins = sys.argv[1:]
spec = RootSpec(
    suite="trixie",
    arch="amd64",
    pins=tuple(AptPin(name=name, version=version) for name, _, version in (pin.partition("=") for pin in pins)),
    bytecode=False,
)
with root_folder(Leases(Path(leases))) as folder:
    say(str(folder.path))
    with closing(stream_root(spec, Workplace(folder=folder.path, inherits=(folder.handle,), say=say))) as chunks:
        for _chunk in chunks:
            say("read")
