"""Another place to build in: a copy of the checkout, a cache with nothing but what is given, another environment."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import cached_property
from pathlib import Path

import buildkit
from buildkit.build.context import BuildContext
from buildkit.build.disk_checkout import DiskCheckout
from buildkit.errors import BuildError
from buildkit.locks.model_source import RepoSource
from buildkit.plan.spec import PackFiles, PackModel, PackWheels, RunStep, Spec, Tree
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from buildkit.tools.git import make_repository

_TIME = 1_000_000_000  # 2001-09-09: when the copy's files were changed, as it seems
# what is read without asking the checkout
_DEFINITIONS = ("pyproject.toml", "uv.toml", "stages/*/stage.toml")
# two values each, for one of them may be what the user has
OTHER = {
    "TZ": ("Pacific/Kiritimati", "America/St_Johns"),
    "LANG": ("tr_TR.UTF-8", "C"),
    "LC_ALL": ("tr_TR.UTF-8", "C"),
    "PYTHONHASHSEED": ("7", "8"),
    "SOURCE_DATE_EPOCH": ("1234567890", "1234567891"),
}


class NotingCheckout(DiskCheckout):
    """A checkout that notes which files were read for their text."""

    @cached_property
    def noted(self) -> dict[str, None]:
        """Paths of what was read, in that order."""
        return {}

    def read(self, path: str) -> str | None:
        """As ``DiskCheckout.read``."""
        self.noted[path] = None
        return super().read(path)


def copy_checkout(source: Path, texts: Iterable[str], specs: Iterable[Spec], into: Path) -> dict[str, str]:
    """Copy what composing and building ``specs`` reads to the new folder ``into``; the environment for git there.

    Modes and times are others; only the executable bit is kept. Raises BuildError for a file that is gone.
    """
    works = [spec.work for spec in specs]
    trees = list(_trees(works))
    tracked = {_join(tree.path, file.path) for tree in trees for file in tree.files}
    models = {
        file.source
        for work in works
        if isinstance(work, PackModel) and isinstance(work.model.source, RepoSource)
        for file in work.files
    }
    defined = {str(path.relative_to(source)) for pattern in _DEFINITIONS for path in source.glob(pattern)}
    present = {name for name in (*texts, *defined, *models) if (source / name).is_file()}
    for name in sorted(tracked | present):
        _copy(source / name, into / name)
    return make_repository(into, sorted(tracked))


def _trees(works: Iterable[object]) -> Iterator[Tree]:
    for work in works:
        match work:
            case PackFiles():
                yield work.tree
            case RunStep():
                yield from (tree for tree, _ in work.mounts)
            case PackWheels():
                yield from (item.tree for item in work.compiled if item.tree is not None)


def _join(tree: str, name: str) -> str:
    return os.path.normpath(f"{tree}/{name}")


def _copy(old: Path, new: Path) -> None:
    new.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(old, new, follow_symlinks=False)
    except FileNotFoundError:
        raise BuildError(f"{old}: removed while it was being copied", hint="run the same command again") from None
    if not new.is_symlink():
        new.chmod(0o700 if old.stat().st_mode & 0o100 else 0o600)
    os.utime(new, (_TIME, _TIME), follow_symlinks=False)


def lend(context: BuildContext, given: Iterable[Spec], cache: Path) -> None:
    """Make a cache that has what was downloaded, and the layers ``given``, as links to what ``shop`` has."""
    blobs = Blobs(cache)
    context.blobs.notes.folder.mkdir(exist_ok=True)
    blobs.notes.folder.symlink_to(context.blobs.notes.folder)  # if we are killed, another build removes our containers
    for file in context.blobs.folder.glob("files/*/[!.]*"):
        place = cache / "files" / file.parent.name
        place.mkdir(exist_ok=True)
        (place / file.name).symlink_to(file)
    with closing(Ledger(cache / "ledger.sqlite")) as ledger:
        for spec in given:
            made = context.state.results[spec.key]
            for blob in made.blobs:
                if not blobs.path(blob.digest).is_symlink():
                    blobs.path(blob.digest).symlink_to(context.blobs.path(blob.digest))
            ledger.add_layer(spec, made, context.ledger.layers.contents(spec.key) or [])


def other_umask() -> int:
    """Not the umask that we have."""
    found = re.search(r"^Umask:\s*0*77$", Path("/proc/self/status").read_text("ascii", "replace"), re.MULTILINE)
    return 0o027 if found else 0o077


def other_environment(work: Path) -> dict[str, str]:
    """Variables that shall not matter, with other values than here; the cache below ``work``."""
    env = {name: values[os.environ.get(name) == values[0]] for name, values in OTHER.items()}
    package = str(Path(buildkit.__file__).parents[1])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    env["BUILDKIT_CACHE"] = str(work / "cache")
    home = _other_home(work / "home")
    return env | ({"HOME": str(home)} if home else {})


def _other_home(place: Path) -> Path | None:
    """A home folder with links to all that is in the user's, for tools keep settings and images there.

    None for an ordinary user without ``.local``: a tool would make it, and images in it, in what will be removed.
    """
    home = Path.home()
    place.mkdir()
    entries = list(home.iterdir()) if home.is_dir() else []
    if os.geteuid() != 0 and home / ".local" not in entries:
        return None
    for entry in entries:
        (place / entry.name).symlink_to(entry)
    return place
