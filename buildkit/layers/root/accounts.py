"""Add accounts to the texts of ``etc/passwd``, ``etc/group`` and ``etc/shadow``."""

from __future__ import annotations

from collections.abc import Mapping

from buildkit.declare.stage import User
from buildkit.errors import BuildError

PASSWD, GROUP, SHADOW, GSHADOW = "etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"

# The accounts of a root to which no package script added any: uid 0 for the runtime, nobody for dropped privileges.
_BARE = {
    PASSWD: "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    GROUP: "root:x:0:\nnogroup:x:65534:\n",
    SHADOW: "root:*::0:99999:7:::\nnobody:*::0:99999:7:::\n",
}
_LAST_CHANGE = 2  # the field of shadow(5) that holds the day of the last change


def add_users(texts: Mapping[str, str], users: tuple[User, ...]) -> dict[str, str]:
    """Return the account files (by path) with ``users`` added, and without dates of last changes in ``etc/shadow``.

    A file that ``texts`` lacks is created, except ``etc/gshadow``. Raises BuildError if another account has the name or
    uid. An existing account with the same ids, home and shell is left alone. Formats: passwd(5), group(5), shadow(5),
    gshadow(5).
    """
    files = {path: texts.get(path, text) for path, text in _BARE.items()}
    if GSHADOW in texts:
        files[GSHADOW] = texts[GSHADOW]
    files[SHADOW] = "".join(f"{_undated(line)}\n" for line in files[SHADOW].splitlines())
    for user in users:
        _add(files, user)
    return files


def _add(files: dict[str, str], user: User) -> None:
    line_to_add = f"{user.name}:x:{user.uid}:{user.gid}::{user.home}:{user.shell}"
    for line in files[PASSWD].splitlines():
        name, uid = [*line.split(":"), "", "", ""][0:3:2]
        if line == line_to_add:
            return
        if name == user.name or uid == str(user.uid):
            raise BuildError(
                f"cannot add the user {user.name} (uid {user.uid}): the root has `{line}`",
                hint="choose another name or uid",
            )
    files[PASSWD] += f"{line_to_add}\n"
    files[SHADOW] += f"{user.name}:!::0:99999:7:::\n"
    groups = [line.split(":") for line in files[GROUP].splitlines() if line.count(":") >= 3]
    if any(group[2] == str(user.gid) for group in groups):
        return
    if any(group[0] == user.name for group in groups):
        raise BuildError(
            f"cannot add the user {user.name}: the root has a group {user.name} with another id than {user.gid}",
            hint="set `gid` to that group's, or choose another name",
        )
    files[GROUP] += f"{user.name}:x:{user.gid}:\n"
    if GSHADOW in files:
        files[GSHADOW] += f"{user.name}:!::\n"


def _undated(line: str) -> str:
    fields = line.split(":")
    if len(fields) > _LAST_CHANGE:
        fields[_LAST_CHANGE] = ""  # empty means that ages are not enforced; 0 would ask for a new password
    return ":".join(fields)
