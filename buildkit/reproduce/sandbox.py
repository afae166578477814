"""A second place to build in: a copy of the checkout, a cache that borrows layers, and a different environment."""

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
from buildkit.build.make_blobs import make_blobs
from buildkit.errors import BuildError
from buildkit.locks.model_source import RepoSource
from buildkit.locks.pins import Model
from buildkit.plan.spec import (
    BuildContainerfile,
    MakeRoot,
    PackFiles,
    PackFramework,
    PackLinks,
    PackModel,
    PackPrefix,
    PackPython,
    PackSbom,
    PackServing,
    PackWheels,
    PullImage,
    RunStep,
    Spec,
    Tree,
    Work,
)
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from buildkit.store.ledger_key import VARIABLE as LEDGER_KEY
from buildkit.store.ledger_key import key_file
from buildkit.tools.git import make_repository

_MODIFIED = 1_000_000_000  # 2001-09-09: modification time of the copied files
# files that are read without asking the checkout
_DEFINITIONS = ("pyproject.toml", "uv.toml", "stages/*/stage.toml")
# two values each, because one may be the user's own
VARIED_VARIABLES = {
    "TZ": ("Pacific/Kiritimati", "America/St_Johns"),
    "LANG": ("tr_TR.UTF-8", "C"),
    "LC_ALL": ("tr_TR.UTF-8", "C"),
    "PYTHONHASHSEED": ("7", "8"),
    "SOURCE_DATE_EPOCH": ("1234567890", "1234567891"),
}


class RecordingCheckout(DiskCheckout):
    """A checkout that records which files are read as text."""

    @cached_property
    def read_paths(self) -> dict[str, None]:
        """The paths of files that were read, in that order."""
        return {}

    def read(self, path: str) -> str | None:
        """Record the path, then read as ``DiskCheckout.read`` does."""
        self.read_paths[path] = None
        return super().read(path)


def copy_checkout(source: Path, texts: Iterable[str], specs: Iterable[Spec], into: Path) -> dict[str, str]:
    """Copy the files that composing and building ``specs`` reads to the new folder ``into``.

    Modes and times differ from the source's; only the executable bit is kept. Returns environment variables for git in
    the copy. Raises BuildError for a file that is gone.
    """
    works = [spec.work for spec in specs]
    trees = list(_trees(works))
    tracked = {_join(tree.path, file.path) for tree in trees for file in tree.files}
    models = {name for work in works if isinstance(work, PackModel) for name in _files_of_model(work.model)}
    defined = {str(path.relative_to(source)) for pattern in _DEFINITIONS for path in source.glob(pattern)}
    present = {name for name in (*texts, *defined, *models) if (source / name).is_file()}
    for name in sorted(tracked | present):
        _copy(source / name, into / name)
    return make_repository(into, sorted(tracked))


def _files_of_model(model: Model) -> Iterator[str]:
    """Yield the repository's own files of a model, and of all that it is derived from and by."""
    if isinstance(model.source, RepoSource):
        yield from (file.source for file in model.files)
    if model.origin is not None:
        yield from model.origin.files
        yield from _files_of_model(model.origin.source)


def _trees(works: Iterable[Work]) -> Iterator[Tree]:
    for work in works:
        match work:
            case PackFiles():
                yield work.tree
            case BuildContainerfile():
                yield work.context
            case RunStep():
                yield from (tree for tree, _ in work.mounts)
            case PackWheels():
                yield from (item.tree for item in work.compiled if item.tree is not None)
            case MakeRoot() | PullImage() | PackPython() | PackPrefix() | PackModel():
                pass  # models are copied by their locks, the rest needs no file of the repository
            case PackLinks() | PackFramework() | PackServing() | PackSbom():
                pass


def _join(tree: str, name: str) -> str:
    return os.path.normpath(f"{tree}/{name}")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise BuildError(f"{source}: removed while it was being copied", hint="run the same command again") from None
    if not target.is_symlink():
        target.chmod(0o700 if source.stat().st_mode & 0o100 else 0o600)
    os.utime(target, (_MODIFIED, _MODIFIED), follow_symlinks=False)


def create_borrowing_cache(context: BuildContext, borrowed: Iterable[Spec], cache: Path) -> None:
    """Create a cache whose downloads and ``borrowed`` layers are links to those of the context's cache."""
    blobs = Blobs(cache)
    context.blobs.leases.folder.mkdir(exist_ok=True)
    blobs.leases.folder.symlink_to(
        context.blobs.leases.folder
    )  # so that another build removes our containers if we are killed
    for file in context.blobs.folder.glob("files/*/[!.]*"):
        folder = cache / "files" / file.parent.name
        folder.mkdir(exist_ok=True)
        (folder / file.name).symlink_to(file)
    with closing(Ledger(cache / "ledger.sqlite")) as ledger:
        specs = list(borrowed)
        make_blobs(context, specs)  # the other cache has no image store
        for spec in specs:
            result = context.state.results[spec.key]
            for blob in result.blobs:
                if not blobs.path(blob.digest).is_symlink():
                    blobs.path(blob.digest).symlink_to(context.blobs.path(blob.digest))
            ledger.add_layer(spec, result, context.ledger.layers.contents(spec.key))


def different_umask() -> int:
    """Return a umask that this process does not have."""
    is_077 = re.search(r"^Umask:\s*0*77$", Path("/proc/self/status").read_text("ascii", "replace"), re.MULTILINE)
    return 0o027 if is_077 else 0o077


def different_environment(work: Path) -> dict[str, str]:
    """Return variables that must not matter, with other values than here; the cache is below ``work``."""
    env = {name: values[os.environ.get(name) == values[0]] for name, values in VARIED_VARIABLES.items()}
    package = str(Path(buildkit.__file__).parents[1])
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
    env["BUILDKIT_CACHE"] = str(work / "cache")
    env |= {"BUILDKIT_STORE": str(work / "store"), "BUILDKIT_DELIVERY": "import"}
    env[LEDGER_KEY] = str(key_file())  # the other process reads rows that this one wrote
    home = _create_home(work / "home")
    return env | ({"HOME": str(home)} if home else {})


def _create_home(folder: Path) -> Path | None:
    """Create a home folder with links to all that is in the user's, because tools keep settings and images there.

    Returns None for an ordinary user without ``.local``: a tool would create it, with images, in a folder that is
    removed afterwards.
    """
    home = Path.home()
    folder.mkdir()
    entries = list(home.iterdir()) if home.is_dir() else []
    if os.geteuid() != 0 and home / ".local" not in entries:
        return None
    for entry in entries:
        (folder / entry.name).symlink_to(entry)
    return folder
