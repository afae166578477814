"""Files below a folder, made as a layer's tar describes them; no link is followed, whatever the tar says.

Every folder is opened by its name in its parent (openat(2) with ``O_NOFOLLOW``). Where the tar has made a link of a
folder on the way, the link is resolved here, as if the tree were ``/``. Whiteouts become those of overlayfs: character
devices 0:0, and an extended attribute of opaque folders (kernel documentation, overlayfs, "whiteouts and opaque
directories"); ``trusted.overlay.opaque`` is root's, ``user.overlay.opaque`` is for mounts in a user namespace.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from buildkit.errors import BuildError
from buildkit.imagestore.tree_paths import find_whiteout, is_opaque_marker, normalise, resolve_folder
from buildkit.layers.tar.parser import BLOCK_DEVICE, CHARACTER_DEVICE, FOLDER, HARD_LINK, PIPE, SYMLINK, LayerMember

_MOST_OPEN = 64
_OPEN_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
OVERLAY = (b"trusted.overlay.", b"user.overlay.", b"user.fuseoverlayfs.", b"user.containers.")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO)


class TreeWriter:
    """Makes members below ``folder``, which is empty. ``owners``: set them, as root of a (user) namespace may.

    Raises BuildError for members that cannot be made; a full or read-only disk is an OSError. `close` must be called.
    """

    def __init__(self, folder: Path, *, owners: bool, rootless: bool, what: str) -> None:
        self._what = what
        self._owners = owners
        self._rootless = rootless
        self._opaque = b"user.overlay.opaque" if rootless else b"trusted.overlay.opaque"
        self._open = {b"": os.open(folder, _OPEN_FOLDER)}
        self._folders: dict[bytes, LayerMember | None] = {b"": None}
        self._links: dict[bytes, bytes] = {}
        self._whiteouts: set[bytes] = set()
        self.plain = True  # whether the user can read and remove the tree without a namespace

    def close(self) -> None:
        """Close what is open."""
        for handle in self._open.values():
            os.close(handle)
        self._open.clear()

    def locate(self, path: bytes) -> bytes:
        """Return where a member belongs: links of folders on the way are resolved. Raises ValueError."""
        folder, slash, name = path.rpartition(b"/")
        if not slash or folder in self._folders:
            return path
        found = resolve_folder(folder, self._links)
        return found + b"/" + name if found else name

    def create(self, path: bytes) -> int:
        """Create a file, and return its descriptor."""
        folder, name = self._place(path)
        try:
            return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        except FileExistsError:
            self._clear(path)
            return os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        except OSError as error:
            raise self.refused(path, error) from error

    def adopt(self, path: bytes, clone: Path) -> int:
        """Make ``clone`` the file at ``path``, and return its descriptor; it has its content already."""
        folder, name = self._place(path)
        try:
            os.link(clone, name, dst_dir_fd=folder)
            clone.unlink()
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
        except OSError as error:
            raise self.refused(path, error) from error

    def complete(self, handle: int, path: bytes, member: LayerMember) -> None:
        """Give a file that is open its owner, attributes, mode and time."""
        try:
            if self._is_foreign(path, member):
                os.fchown(handle, member.uid, member.gid)
            if member.xattrs:
                self._set_attributes(handle, member.xattrs)
            os.fchmod(handle, member.mode)
            os.utime(handle, ns=(member.mtime, member.mtime))
        except OSError as error:
            raise self.refused(path, error) from error
        if not member.mode & 0o400:
            self.plain = False

    def make(self, path: bytes, member: LayerMember) -> None:
        """Make a member that has no content."""
        folder, name = self._place(path)
        try:
            self._make(path, member)
        except FileExistsError:
            self._clear(path)
            self._make(path, member)
        except OSError as error:
            raise self.refused(path, error) from error
        if member.kind not in (FOLDER, HARD_LINK):
            self._finish_special(folder, name, path, member)

    def white_out(self, path: bytes) -> bool:
        """Make a whiteout, if the name is one, and return whether it is. Raises ValueError if it names nothing."""
        removed = find_whiteout(path.rpartition(b"/")[2])
        if removed is None:
            return False
        if any(path.startswith(gone + b"/") for gone in self._whiteouts):
            return True  # its folder is hidden as a whole
        folder, _, name = self.locate(path).rpartition(b"/")
        if is_opaque_marker(name):
            self._make_opaque(folder)
        elif removed:
            self._remove_below(folder + b"/" + removed if folder else removed)
        return True

    def finish(self) -> None:
        """Give folders their owners, modes and times, those within others first."""
        root = self._open[b""]
        for path, member in sorted(self._folders.items(), reverse=True):
            mode, mtime = (0o755, 0) if member is None else (member.mode, member.mtime)
            try:
                if member is not None and self._is_foreign(path, member):
                    os.chown(path, member.uid, member.gid, dir_fd=root, follow_symlinks=False)
                os.chmod(path or b".", mode, dir_fd=root)
                os.utime(path or b".", ns=(mtime, mtime), dir_fd=root, follow_symlinks=False)
            except OSError as error:
                raise self.refused(path, error) from error
            if mode & 0o700 != 0o700:
                self.plain = False

    def refused(self, path: bytes, error: OSError) -> Exception:
        """Return the error to raise: a full disk is an OSError, anything else is the layer's own fault."""
        if error.errno in _NO_ROOM:
            return error
        hint = ""
        if error.errno == errno.EINVAL and self._rootless:
            hint = "the owner is not among your subordinate ids; /etc/subuid and /etc/subgid need 65536 of each"
        return BuildError(f"{self._what}: {_text(path)} cannot be made: {error.strerror}", hint=hint)

    # folders

    def _place(self, path: bytes) -> tuple[int, bytes]:
        folder, _, name = path.rpartition(b"/")
        handle = self._open.get(folder)
        return (self._enter(folder) if handle is None else handle), name

    def _enter(self, folder: bytes) -> int:
        """Open a folder of the tree, through its parents; make those that are missing."""
        handle = self._open.get(folder)
        if handle is not None:
            return handle
        parts = folder.split(b"/")
        at, handle = b"", self._open[b""]
        for part in parts:
            path = at + b"/" + part if at else part
            known = self._open.get(path)
            if known is None:
                known = self._step(handle, path, part)
            at, handle = path, known
        return handle

    def _step(self, parent: int, path: bytes, name: bytes) -> int:
        if path not in self._folders:
            self._mkdir(parent, path, name)
        try:
            handle = os.open(name, _OPEN_FOLDER, dir_fd=parent)
        except OSError as error:
            raise self.refused(path, error) from error
        self._remember(path, handle)
        return handle

    def _remember(self, path: bytes, handle: int) -> None:
        if len(self._open) >= _MOST_OPEN:
            for known in list(self._open)[1 : _MOST_OPEN // 2]:  # the first is the tree's
                os.close(self._open.pop(known))
        self._open[path] = handle

    def _mkdir(self, parent: int, path: bytes, name: bytes) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if path not in self._whiteouts:
                raise BuildError(f"{self._what}: {_text(path)} is a folder, and also something else") from None
            os.unlink(name, dir_fd=parent)
            self._whiteouts.discard(path)
            os.mkdir(name, 0o700, dir_fd=parent)
            self._folders[path] = None
            self._make_opaque(path)
        except OSError as error:
            raise self.refused(path, error) from error
        self._folders[path] = None

    # members

    def _make(self, path: bytes, member: LayerMember) -> None:
        if member.kind == FOLDER:
            self._make_folder(path, member)
            return
        folder, name = self._place(path)
        if member.kind == SYMLINK:
            os.symlink(member.link, name, dir_fd=folder)
            self._links[path] = member.link
        elif member.kind == HARD_LINK:
            self._link(path, member)
        elif member.kind == PIPE:
            os.mkfifo(name, 0o600, dir_fd=folder)
        else:
            self._make_device(folder, name, member)

    def _make_folder(self, path: bytes, member: LayerMember) -> None:
        if not path:
            return  # containers-storage ignores what a layer says of the root itself, too
        if path not in self._folders:
            folder, name = self._place(path)
            self._mkdir(folder, path, name)
        self._folders[path] = member
        if member.xattrs:
            self._set_attributes(b"/proc/self/fd/%d" % self._enter(path), member.xattrs)

    def _link(self, path: bytes, member: LayerMember) -> None:
        target = self.locate(normalise(member.link))
        folder, name = self._place(target)
        folder = os.dup(folder)  # opening the other may close this one
        try:
            to, new = self._place(path)
            os.link(name, new, src_dir_fd=folder, dst_dir_fd=to, follow_symlinks=False)
        except FileNotFoundError as error:
            raise BuildError(
                f"{self._what}: {_text(path)} is a hard link to {_text(target)}, which the layer does not have"
            ) from error
        finally:
            os.close(folder)

    def _make_device(self, folder: int, name: bytes, member: LayerMember) -> None:
        if self._rootless:
            return  # a user namespace may not make devices; containers-storage leaves them out as well
        kind = {CHARACTER_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK}[member.kind]
        with suppress(PermissionError):  # root of a container without CAP_MKNOD
            os.mknod(name, kind | 0o600, os.makedev(*member.device), dir_fd=folder)

    def _finish_special(self, folder: int, name: bytes, path: bytes, member: LayerMember) -> None:
        try:
            if self._is_foreign(path, member):
                os.chown(name, member.uid, member.gid, dir_fd=folder, follow_symlinks=False)
            if member.kind != SYMLINK:
                os.chmod(name, member.mode, dir_fd=folder)
            os.utime(name, ns=(member.mtime, member.mtime), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return  # a device that was left out
        except OSError as error:
            raise self.refused(path, error) from error

    # whiteouts

    def _remove_below(self, path: bytes) -> None:
        """Hide what the layers below have at ``path``; what this layer has there stays (OCI image specification)."""
        if path in self._folders:
            self._make_opaque(path)
            return
        folder, name = self._place(path)
        try:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=folder)
        except FileExistsError:
            return
        except OSError as error:
            raise self.refused(path, error) from error
        self._whiteouts.add(path)

    def _make_opaque(self, folder: bytes) -> None:
        try:
            os.setxattr(b"/proc/self/fd/%d" % self._enter(folder), self._opaque, b"y")
        except OSError as error:
            raise self.refused(folder, error) from error

    def _clear(self, path: bytes) -> None:
        """Remove the whiteout at ``path``: what comes after it is new. Raises BuildError if something else is there."""
        if path not in self._whiteouts:
            raise BuildError(f"{self._what}: {_text(path)} comes twice")
        folder, name = self._place(path)
        os.unlink(name, dir_fd=folder)
        self._whiteouts.discard(path)

    # attributes

    def _is_foreign(self, path: bytes, member: LayerMember) -> bool:
        if not member.uid and not member.gid:
            return False
        if not self._owners:
            raise BuildError(f"{self._what}: {_text(path)} belongs to {member.uid}:{member.gid}, not to root")
        return True

    def _set_attributes(self, place: int | bytes, xattrs: Mapping[bytes, bytes]) -> None:
        """Set extended attributes, except those that overlayfs itself would obey: a layer could redirect folders."""
        for name, value in xattrs.items():
            if name.startswith(OVERLAY):
                continue
            try:
                os.setxattr(place, name, value)
            except OSError as error:
                # containers-storage leaves out what a file system or a user namespace refuses, too
                if error.errno != errno.ENOTSUP and not (self._rootless and error.errno == errno.EPERM):
                    raise


def _text(path: bytes) -> str:
    return repr(path.decode("utf-8", "backslashreplace"))[:300]
