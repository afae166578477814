"""A package in a git repository, at one commit: ``git+https://HOST/PATH@COMMIT#subdirectory=FOLDER``.

That is the form of pip (https://pip.pypa.io/en/stable/topics/vcs-support/), with the commit's whole id. Locks of other
tools say the same in tables of their own.
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import parse_qs, urlsplit, urlunsplit

from buildkit.lazy_dataclass import dataclass

_SCHEMES = ("https", "ssh", "http", "git")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SCP = re.compile(r"(?P<user>[\w.-]+@)?(?P<host>[\w.-]+):(?P<path>[^/:][^:]*)")  # git@HOST:PATH
_PREFIX = "git+"


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A commit of the repository at ``url``; the package is in ``subdirectory``, empty for the top."""

    url: str
    commit: str
    subdirectory: str = ""

    @property
    def stem(self) -> str:
        """The name of the repository with the beginning of the commit, for files."""
        name = posixpath.basename(urlsplit(self.url).path.rstrip("/")).removesuffix(".git")
        return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', name).strip('.-') or 'repository'}-{self.commit[:12]}"

    def __str__(self) -> str:
        end = f"#subdirectory={self.subdirectory}" if self.subdirectory else ""
        return f"{_PREFIX}{self.url}@{self.commit}{end}"


def make_git_source(url: str, commit: str, subdirectory: str = "") -> GitSource:
    """Return a source. Raises ValueError with what is wrong, to follow the name of the package."""
    if scp := _SCP.fullmatch(url):
        url = f"ssh://{scp['user'] or ''}{scp['host']}/{scp['path']}"
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not parts.hostname or parts.netloc.startswith("-"):
        raise ValueError(f"is in a repository that only {_SCHEMES[0]} or {_SCHEMES[1]} could reach from everywhere")
    if parts.password or (parts.username and parts.scheme != "ssh"):
        raise ValueError("names credentials of a repository; git has a credential helper for them")
    if not _COMMIT.fullmatch(commit):
        raise ValueError("names no whole commit of its repository")
    folder = posixpath.normpath(subdirectory.strip("/")) if subdirectory else ""
    if folder.startswith("..") or not folder.isprintable():
        raise ValueError("is in a folder outside its repository")
    bare = urlunsplit(parts._replace(query="", fragment=""))
    return GitSource(url=bare, commit=commit, subdirectory="" if folder == "." else folder)


def is_git(text: str) -> bool:
    """Return whether a place is in a git repository."""
    return text.startswith(_PREFIX)


def parse_git_source(text: str, *, revision: bool = False) -> GitSource:
    """Parse the form of pip. Raises ValueError with what is wrong, to follow the name of the package.

    With ``revision``, a branch, a tag or nothing may stand for the commit, which is then made up.
    """
    parts = urlsplit(text.removeprefix(_PREFIX))
    path, at, commit = parts.path.rpartition("@")
    url = urlunsplit(parts._replace(path=path if at else parts.path, fragment=""))
    folder = parse_qs(parts.fragment).get("subdirectory", [""])[0]
    return make_git_source(url, "0" * 40 if revision else commit if at else "", folder)
