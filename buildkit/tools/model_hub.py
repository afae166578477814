"""Repositories of a model hub, read by its own client library: the commit of a revision, and the files at a commit.

The library (huggingface_hub) knows the API and its errors; our `HttpSession` carries the requests: to the hub of the
settings, with the user's token, with our certificates, proxies and retries, and with limits to what a hub may send.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from buildkit.declare.schema import suggest_word
from buildkit.digest import FileHash
from buildkit.errors import BuildkitError, DefinitionError, FetchError
from buildkit.locks.model_source import HUB, HubSource
from buildkit.tools.http import HttpSession, make_carried_client
from buildkit.tools.hub_user import find_cached
from buildkit.tools.index_settings import host_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi, RepoFile
    from huggingface_hub.errors import HfHubHTTPError

_MOST_BYTES = 64 << 20  # of an answer
_MOST_FILES = 100_000
_MOST_REQUESTS = 1000
_MOST_SIZE = 1 << 50
_MOST_NAMED = 8
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TOKEN_HINT = "set HF_TOKEN to a token that may read it, or run: hf auth login"  # noqa: S105 - no password
_ODD = (KeyError, TypeError, ValueError, AttributeError, RecursionError)  # of an answer that the library cannot read
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRevision:
    """A commit of a repository (40 hex digits), and the licence of its card, empty if it names none."""

    commit: str
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file at a commit: size in bytes, and the hash that the hub says.

    That is the SHA-256 of a large file (LFS, Xet). Others, for which ``sha256`` is None, have that of git.
    """

    path: str
    size: int
    sha256: FileHash | None
    git_oid: str


class ModelHub:
    """Asks a hub about the repository of ``source``. Methods raise FetchError, or DefinitionError for what it lacks."""

    def __init__(self, session: HttpSession, source: HubSource) -> None:
        self._session = session
        self._name = source.repository
        self._requests = 0

    def find_revision(self, revision: str) -> HubRevision:
        """Return the commit of a branch, tag or commit."""
        info = self._ask(lambda api: api.model_info(self._name, revision=revision), revision)
        if info.id != self._name:
            hint = f'write: source = "hf:{info.id}"'
            raise DefinitionError(f"the hub knows {self._name} as {str(info.id)[:200]!r} now", hint=hint)
        if not isinstance(info.sha, str) or not _COMMIT.fullmatch(info.sha):
            raise self._odd(f"`{revision}` names no commit")
        licence = info.card_data.get("license") if info.card_data else None
        return HubRevision(commit=info.sha, license=licence[:100] if isinstance(licence, str) else "")

    def list_files(self, commit: str) -> tuple[HubFile, ...]:
        """Return all files at a commit, by path."""
        files: dict[str, HubFile] = {}

        def list_all(api: HfApi) -> None:
            from huggingface_hub import RepoFile

            for entry in api.list_repo_tree(self._name, recursive=True, revision=commit):
                if isinstance(entry, RepoFile):
                    file = _read_file(entry)
                    if file.path in files or len(files) == _MOST_FILES:
                        raise ValueError(f"lists {file.path[:200]!r} twice, or more than {_MOST_FILES} files")
                    files[file.path] = file

        self._ask(list_all, commit)
        return tuple(files[path] for path in sorted(files))

    def url_of(self, commit: str, path: str) -> str:
        """Return the URL of a file at a commit, at the public hub: the settings say which is asked."""
        return f"{HUB}/{self._name}/resolve/{commit}/{quote(path)}"

    def read_small(self, commit: str, file: HubFile) -> bytes:
        """Return a file that is kept in git, from the library's cache on this host or from the hub.

        Raises FetchError if the hub sends other bytes than those that it lists.
        """
        url = self.url_of(commit, file.path)
        for cached in find_cached(url):
            with suppress(OSError):
                if cached.stat().st_size == file.size and _git_oid(data := cached.read_bytes()) == file.git_oid:
                    return data
        data = self._ask(lambda _api: _get(url), commit)
        if (oid := _git_oid(data)) != file.git_oid or len(data) != file.size:
            what = f"{self._name}: the hub lists {file.path} with {file.git_oid or 'no hash'} and {file.size} bytes"
            hint = "ask those who run the hub or the mirror"
            raise FetchError(f"{what}, but sends {oid} and {len(data)} bytes", hint=hint)
        return data

    def _ask(self, call: Callable[[HfApi], _Result], revision: str) -> _Result:
        from huggingface_hub.errors import HfHubHTTPError

        self._session.find_hub_token()  # which the library may have to renew, by a client of its own
        self._requests = 0
        try:
            with _api(self._carry) as api:
                return call(api)
        except HfHubHTTPError as error:
            raise self._explain(error, revision) from None  # its text may hold what a hub likes to say
        except _ODD as error:
            raise self._odd(f"{type(error).__name__}: {error}") from error

    def _carry(self, url: str) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of an answer to the library; only the hub is asked, and not without end."""
        public = self._session.public_hub_url(url)
        self._requests += 1
        if not public.startswith(f"{HUB}/") or self._requests > _MOST_REQUESTS:
            raise FetchError(f"the hub lists {self._name} without an end, or at {host_of(url)}")
        response, body = self._session.get_limited(public, most=_MOST_BYTES, headers={"Accept": "application/json"})
        return response.status_code, response.headers, body

    def _explain(self, error: HfHubHTTPError, revision: str) -> BuildkitError:
        from huggingface_hub import errors

        status, name = error.response.status_code, self._name
        match error:
            case errors.GatedRepoError():
                page = f"accept its conditions on its page ({HUB}/{name}), and {_TOKEN_HINT}"
                return FetchError(f"{name} is gated: the hub refused with {status}", hint=page)
            case errors.DisabledRepoError():
                return FetchError(f"the hub has disabled {name}", hint=f"see its page: {HUB}/{name}")
            case errors.RepositoryNotFoundError() if status == 404:
                return DefinitionError(
                    f"the hub has no model {name}", hint=f"check the name; if it is private, {_TOKEN_HINT}"
                )
        if status in {401, 403}:
            what = f"{name}: the hub refused with {status}: there is no such model, or it may not be read"
            return FetchError(what, hint=f"check the name; if it is private or gated, {_TOKEN_HINT}")
        if status == 404:
            return DefinitionError(f"there is no revision `{revision}` of {name}", hint=self._suggest(revision))
        return FetchError(f"{name}: {host_of(str(error.response.url))} answered {status}")

    def _suggest(self, revision: str) -> str:
        """Return the nearest branch or tag, and the first of all; for a commit only that."""
        try:
            with _api(self._carry) as api:
                refs = api.list_repo_refs(self._name)
            names = [ref.name for ref in (*refs.branches, *refs.tags) if ref.name.isprintable()]
        except (OSError, BuildkitError, *_ODD):  # HfHubHTTPError is an OSError; the revision is the error to report
            return "check the revision"
        more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
        known = f"branches and tags: {', '.join(names[:_MOST_NAMED])}{more}" if names else "it has no branch"
        nearest = suggest_word(revision, sorted(names))
        return f"{nearest} ({known})" if nearest else known

    def _odd(self, what: str) -> FetchError:
        return FetchError(f"{self._name}: what the hub says is not as documented: {what[:300]}")


@contextmanager
def _api(carry: Callable[[str], tuple[int, Mapping[str, str], bytes]]) -> Iterator[HfApi]:
    """Give the library's API over our own session; the token is the session's."""
    from huggingface_hub import HfApi, constants, set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    constants.HF_HUB_DISABLE_TELEMETRY = True  # which asks for more than we do, and writes into the user's folder
    set_client_factory(lambda: make_carried_client(carry))
    try:
        yield HfApi(endpoint=HUB, token=False)
    finally:
        set_client_factory(default_client_factory)


def _get(url: str) -> bytes:
    from huggingface_hub import get_session, hf_raise_for_status

    response = get_session().get(url)
    hf_raise_for_status(response)
    return response.content


def _git_oid(data: bytes) -> str:
    """Return the hash by which git names a file (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def _read_file(entry: RepoFile) -> HubFile:
    """Check a file of the hub's answer; raises ValueError."""
    size = entry.lfs.size if entry.lfs else entry.size
    if not isinstance(entry.path, str) or len(entry.path) > 4096 or type(size) is not int or not 0 <= size < _MOST_SIZE:
        raise ValueError(f"has a file without path or size: {str(entry.path)[:200]!r}")
    return HubFile(
        path=entry.path,
        size=size,
        sha256=FileHash(entry.lfs.sha256) if entry.lfs else None,
        git_oid=entry.blob_id if isinstance(entry.blob_id, str) else "",
    )
