"""A cache that another user can change, or could have prepared, is refused; ours is for us alone."""

from __future__ import annotations

import grp
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from buildkit.errors import BuildError
from buildkit.store import private_folder
from buildkit.store.blobs import Blobs
from buildkit.store.ledger import Ledger
from buildkit.store.private_folder import ensure_private

OTHER = 12345
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A folder of ours, in which the tests do what they like."""
    folder = tmp_path / "base"
    folder.mkdir(0o755)
    return folder


@pytest.fixture
def cache(base: Path) -> Path:
    """A complete cache, as older versions made them under the usual umask."""
    folder = base / "up/cache"
    Blobs(folder)
    (folder / "boxes").mkdir()
    Ledger(folder / "ledger.sqlite").close()
    for path in (base / "up", folder, *folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def give_away(path: Path) -> None:
    os.chown(path, OTHER, OTHER, follow_symlinks=False)


def open_to_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def open_to_group(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)
    os.chown(path, -1, 12346)


PLACES = ("up", "up/cache", "up/cache/sha256", "up/cache/files", "up/cache/tmp", "up/cache/locks", "up/cache/boxes",
          "up/cache/ledger.sqlite")  # fmt: skip


@needs_root
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("change", [give_away, open_to_all, open_to_group])
def test_cache_that_others_can_change_is_refused(
    base: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None], place: str
) -> None:
    ensure_private(cache)
    path = base / place
    change(path)
    with pytest.raises(BuildError, match=f"{cache}: this cache is not used: ") as caught:
        ensure_private(cache)
    command = caught.value.hint.removeprefix("if nobody did: ").partition(";")[0]
    assert command.endswith(f" {path}")
    assert (" -R " in command) is ("cache" in place)
    monkeypatch.setenv("BUILDKIT_TRUSTED_FOLDERS", f"/elsewhere:{path}")
    ensure_private(cache)
    monkeypatch.setenv("BUILDKIT_TRUSTED_FOLDERS", f"/elsewhere:{path}x:{path}/x:")
    with pytest.raises(BuildError):
        ensure_private(cache)
    subprocess.run(command, shell=True, check=True)
    ensure_private(cache)


def test_new_cache_and_the_folders_above_it_are_for_the_user_alone(base: Path) -> None:
    before = os.umask(0)
    try:
        ensure_private(base / "a/b/cache")
        with Blobs(base / "a/b/cache").leases.hold("box"):
            Ledger(base / "a/b/cache/ledger.sqlite").close()
    finally:
        os.umask(before)
    made = [path for path in (base / "a").rglob("*") if path.is_dir()]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (base / "a", *made)} == {0o700}
    assert stat.S_IMODE((base / "a/b/cache/ledger.sqlite").stat().st_mode) == 0o600


def test_cache_that_others_may_read_is_tightened_but_not_its_own_folder(cache: Path) -> None:
    """The folder may be one that holds other things, too, such as a mounted disk."""
    ensure_private(cache)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()}
    assert modes == dict.fromkeys(("sha256", "files", "tmp", "locks", "boxes"), 0o700) | {"ledger.sqlite": 0o600}
    assert stat.S_IMODE(cache.stat().st_mode) == 0o755


@needs_root
def test_other_user_can_read_no_blob(cache: Path, base: Path) -> None:
    (cache / "sha256/blob").write_bytes(b"x")
    ensure_private(cache)
    for path in base.parents:
        if path != path.parent and path.stat().st_mode & 0o001 == 0:
            path.chmod(path.stat().st_mode | 0o011)
    read = "import os, sys; os.setuid(12345); print(os.path.exists(sys.argv[1]), os.access(sys.argv[2], os.R_OK))"
    argv = [sys.executable, "-c", read, str(cache / "sha256/blob"), str(cache / "ledger.sqlite")]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == "False False\n"


@needs_root
def test_sticky_folders_above_are_fine_unless_somebody_elses(base: Path, cache: Path) -> None:
    (base / "up").chmod(0o1777)
    ensure_private(cache)
    give_away(base / "up")
    with pytest.raises(BuildError, match=f"{base}/up: user {OTHER} owns it"):
        ensure_private(cache)


@pytest.mark.parametrize("place", [".", "sha256"])
def test_sticky_bit_excuses_nothing_in_the_cache(cache: Path, place: str) -> None:
    (cache / place).chmod(0o1777)
    with pytest.raises(BuildError, match="every user may write to it"):
        ensure_private(cache)


@needs_root
@pytest.mark.parametrize("absolute", [True, False])
def test_every_link_on_the_way_is_examined(base: Path, cache: Path, absolute: bool) -> None:
    """Also one in the middle of a chain, and the folders that it goes through."""
    (base / "open/inner").mkdir(parents=True)
    (base / "open").chmod(0o755)
    (base / "link").symlink_to(base / "open/second" if absolute else "./open/second")
    (base / "open/second").symlink_to(base / "up" if absolute else "../up//.")
    reached = base / "link/cache"
    ensure_private(reached)
    (base / "open").chmod(0o777)
    with pytest.raises(BuildError, match=f"{base}/open: every user may write to it"):
        ensure_private(reached)
    (base / "open").chmod(0o755)
    give_away(base / "open/second")
    with pytest.raises(BuildError, match=f"{base}/open/second: user {OTHER} owns it"):
        ensure_private(reached)
    ensure_private(cache)


def test_loop_of_links_is_an_error_of_the_disk(base: Path) -> None:
    (base / "a").symlink_to("b")
    (base / "b").symlink_to("a")
    with pytest.raises(OSError, match="symbolic links"):
        ensure_private(base / "a/cache")


@needs_root
def test_owner_of_roots_home_is_its_user(cache: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the container jobs of CI, and with sudo."""
    home = base / "home"
    home.mkdir()
    give_away(home)
    for path in (cache, *cache.iterdir()):
        give_away(path)
    with pytest.raises(BuildError):
        ensure_private(cache)
    monkeypatch.setenv("HOME", str(home))
    ensure_private(cache)
    open_to_all(cache)
    with pytest.raises(BuildError):
        ensure_private(cache)


@needs_root
def test_home_of_another_user_changes_nothing_for_ordinary_users(
    cache: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_away(base)
    monkeypatch.setenv("HOME", str(base))
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    with pytest.raises(BuildError, match=f"user {OTHER} owns it"):
        ensure_private(cache)


def test_private_group_of_the_user_may_write(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Debian and Fedora give every user such a group, and some a umask of 002."""
    status = cache.stat()
    for path in (cache.parent, cache, cache / "sha256"):
        path.chmod(0o775)
    user = pwd.struct_passwd(("ada", "x", status.st_uid, status.st_gid, "", "/", "/"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: user)
    for name, members, fine in [("ada", [], True), ("ada", ["ada"], True), ("ada", ["eve"], False), ("x", [], False)]:
        group = grp.struct_group((name, "x", status.st_gid, members))
        monkeypatch.setattr(grp, "getgrgid", lambda _gid, group=group: group)
        if fine:
            ensure_private(cache)
            (cache / "sha256").chmod(0o775)
        else:
            with pytest.raises(BuildError, match=r"group \d+ may write to it"):
                ensure_private(cache)
    monkeypatch.setattr(grp, "getgrgid", lambda _gid: grp.struct_group(("ada", "x", status.st_gid, [])))
    monkeypatch.setattr(os, "getxattr", lambda _path, _name: b"a list of users")
    with pytest.raises(BuildError, match=r"group \d+ may write to it"):
        ensure_private(cache)


def test_unmapped_owners_are_trusted_above_the_cache_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a user namespace the host's root, to whom / and /home belong, shows as nobody."""
    nobody = 65534

    def owned_by_nobody(path: str) -> os.stat_result:
        status = list(real_lstat(path))
        status[stat.ST_UID] = nobody if len(Path(path).parts) < 3 or path == hidden else status[stat.ST_UID]
        return os.stat_result(status)

    real_lstat, hidden = os.lstat, ""
    monkeypatch.setattr(private_folder.os, "lstat", owned_by_nobody)
    ensure_private(cache)
    hidden = str(cache)
    with pytest.raises(BuildError, match=f"user {nobody} owns it"):
        ensure_private(cache)
