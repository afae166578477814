"""Resolve Debian packages on top of an image of a registry: what apt would add to it, or upgrade in it.

The host's apt simulates with the image's own list of installed packages, its archives and its keys. Nothing of the
image runs: its apt.conf, which may name commands, is not read.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from buildkit.declare.apt_sources import FILE_NAME, is_replacing
from buildkit.errors import ToolError
from buildkit.layers.root.dpkg import STATUS
from buildkit.locks.pins import AptPin
from buildkit.tools.apt import AptResolveRequest, check_asked, explain_apt, parse_simulation, render_preferences
from buildkit.tools.process import Command, run

_METHODS = Path("/usr/lib/apt/methods")
_ALLOWED = ("copy", "gpgv", "http", "https", "rred", "sqv", "store")  # methods of apt that only read the network
_FOLDERS = (
    "etc/apt/apt.conf.d",
    "etc/apt/preferences.d",
    "etc/apt/sources.list.d",
    "var/cache/apt/archives/partial",
    "var/lib/apt/lists/partial",
)
_SOURCES = re.compile(r"etc/apt/sources\.list(?:\.d/[^/]+)?")
_SIGNED_BY = re.compile(r"(?im)(signed-by\s*[:=][ \t]*)((?:/[^\s,\]]+[, \t]*)+)")
_APT_FILES = re.compile(
    rf"{re.escape(STATUS)}|(?:etc/apt/(?:sources\.list|preferences|trusted\.gpg)(?:\.d/[^/]+)?"
    r"|(?:etc/apt|usr/share|usr/local/share)/keyrings/.+)"
)


def is_apt_file(path: str) -> bool:
    """Return whether the simulation needs a file of an image; ``path`` has no slash before it."""
    return _APT_FILES.fullmatch(path) is not None


def resolve_on_image(request: AptResolveRequest, image: Mapping[str, bytes]) -> tuple[AptPin, ...]:
    """Return every package that would be added or upgraded, sorted; ``image`` has the files of ``is_apt_file``.

    ``request.suite`` is what messages call the image. Raises as `resolve_apt` does.
    """
    check_asked(request)
    with tempfile.TemporaryDirectory(prefix="buildkit-apt-") as name:
        folder = Path(name)
        root = folder / "root"
        _write_root(request, image, root)
        config = folder / "apt.conf"
        config.write_text(_render_config(root, folder / "methods", request.arch), "utf-8")
        _link_methods(folder / "methods")
        for path in (folder, *folder.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)  # apt reads as another user
        env = {"APT_CONFIG": str(config), "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
        names = [f"{pin.name}={pin.version}" for pin in request.kept]
        kept = {pin.name for pin in request.kept}
        names += [package for package in request.packages if package.partition("=")[0] not in kept]
        what = f"resolving {request.file or 'packages'}"
        try:
            run(Command(argv=("apt-get", "--quiet", "--error-on=any", "update"), env=env, what=what))
            argv = ("apt-get", "--simulate", "--quiet", "--no-install-recommends", "install", "--", *names)
            done = run(Command(argv=argv, env=env, what=what))
        except ToolError as error:
            raise explain_apt(error, request) from None
    return parse_simulation(done.stdout.decode("utf-8", "replace"))


def _write_root(request: AptResolveRequest, image: Mapping[str, bytes], root: Path) -> None:
    for path, data in image.items():
        if ".." in PurePosixPath(path).parts:
            continue  # no layer that was read has such a path
        if _SOURCES.fullmatch(path):
            if is_replacing(request.sources):
                continue
            data = _move_keys(data.decode("utf-8", "replace"), root).encode()  # noqa: PLW2901 - the image's keys
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    for folder in _FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    (root / "etc/apt/preferences.d/lock.pref").write_text(render_preferences(request.preferred), "utf-8")
    if request.sources:
        text = _move_keys(request.sources, root)
        (root / "etc/apt/sources.list.d" / FILE_NAME).write_text(text, "utf-8")


def _move_keys(text: str, root: Path) -> str:
    """Return the text of archives whose keyrings are those below ``root``."""
    return _SIGNED_BY.sub(lambda found: found[1] + re.sub(r"/[^\s,\]]+", rf"{root}\g<0>", found[2]), text)


def _link_methods(folder: Path) -> None:
    folder.mkdir()
    for name in _ALLOWED:
        if (_METHODS / name).exists():
            (folder / name).symlink_to(_METHODS / name)


def _render_config(root: Path, methods: Path, arch: str) -> str:
    settings = {
        "Dir": f"{root}/",
        "Dir::State::status": root / STATUS,
        "Dir::Bin::methods": methods,
        "APT::Architecture": arch,
        "Acquire::Languages": "none",
        "Acquire::Retries": "1",
    }
    lines = [f'{key} "{value}";' for key, value in settings.items()]
    return "\n".join((*lines, f'APT::Architectures {{ "{arch}"; }};')) + "\n"
