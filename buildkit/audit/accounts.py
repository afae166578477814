"""The user that the container runs as, and the accounts of the image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from buildkit.audit import account_rules as rules
from buildkit.audit.layer_view import TarEntry
from buildkit.audit.view import ImageView, format_untrusted
from buildkit.findings import Finding, Rule

_PASSWD, _SHADOW = "etc/passwd", "etc/shadow"
_LOCKED = ("!", "*", "x")


def check_user(view: ImageView) -> Iterator[Finding]:
    """Check the config's user."""
    user, identity = view.config.user, view.identity
    if identity.uid is None:
        shown = format_untrusted(user.partition(":")[0])
        yield Finding(rule=rules.USER_UNKNOWN, what=f"the user is `{shown}`, which is not in /etc/passwd", path=_PASSWD)
    elif identity.uid == 0:
        what = f"the user is `{format_untrusted(user)}`" if user else "no user is set, so it is root"
        yield Finding(rule=rules.USER_ROOT, what=what, path="")
    elif not user.partition(":")[0].isdecimal():
        what = f"the user is `{format_untrusted(user)}`, which is uid {identity.uid}"
        yield Finding(rule=rules.USER_BY_NAME, what=what, path=_PASSWD)


def check_accounts(view: ImageView) -> Iterator[Finding]:
    """Check /etc/passwd and /etc/shadow: other roots, duplicates, passwords, and write access."""
    yield from _check_passwd(view)
    yield from _check_shadow(view)
    for path in (_PASSWD, _SHADOW, "etc/group", "etc/sudoers"):
        entry = view.find(path)
        if entry is not None and view.identity.uid and view.identity.may_write(entry):
            what = f"{view.identity.description} may write it (mode {entry.mode:04o}, of uid {entry.uid})"
            yield _finding(view, path, rules.ACCOUNTS_WRITABLE, what)


def _check_passwd(view: ImageView) -> Iterator[Finding]:
    accounts = view.accounts
    for account in accounts:
        if account.uid == 0 and account.name != "root":
            yield _finding(view, _PASSWD, rules.SECOND_ROOT, f"`{format_untrusted(account.name)}` has uid 0")
        if not account.password:
            yield _finding(
                view, _PASSWD, rules.EMPTY_PASSWORD, f"`{format_untrusted(account.name)}` has an empty password"
            )
    for what, values in (("name", [a.name for a in accounts]), ("uid", [str(a.uid) for a in accounts if a.uid])):
        for value, count in Counter(values).items():
            if count > 1:
                yield _finding(
                    view,
                    _PASSWD,
                    rules.DUPLICATE_ACCOUNT,
                    f"{count} accounts have the {what} {format_untrusted(value)}",
                )


def _check_shadow(view: ImageView) -> Iterator[Finding]:
    for line in view.text(_SHADOW).splitlines():
        name, colon, rest = line.partition(":")
        password = rest.partition(":")[0]
        if colon and not password:
            yield _finding(view, _SHADOW, rules.EMPTY_PASSWORD, f"`{format_untrusted(name)}` has an empty password")
        elif password and not password.startswith(_LOCKED):
            yield _finding(view, _SHADOW, rules.PASSWORD, f"`{format_untrusted(name)}` has a password")


def _finding(view: ImageView, path: str, rule: Rule, what: str) -> Finding:
    entry: TarEntry | None = view.find(path)
    return Finding(rule=rule, what=what, path=path, layer=view.layers[entry.layer].digest if entry else "")
