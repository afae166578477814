"""Repositories of a model hub (https://huggingface.co/docs/hub/api): the commit of a revision, and its files.

URLs are those of the public hub; `HttpSession` sends them to the hub of the settings (``HF_ENDPOINT``, ``HF_TOKEN``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from buildkit.digest import FileHash
from buildkit.errors import DefinitionError, FetchError
from buildkit.hostile_json import JsonValue, MalformedError, parse_json
from buildkit.locks.model_source import HUB, HubSource
from buildkit.tools.http import HttpSession
from buildkit.tools.index_settings import host_of

_MOST_BYTES = 64 << 20
_MOST_FILES = 100_000
_MOST_PAGES = 1000
_MOST_SIZE = 1 << 50
_COMMIT = re.compile(r"[0-9a-f]{40}")
_NEXT = re.compile(r'<([^<>\s]+)>;\s*rel="next"')


@dataclass(frozen=True, slots=True, kw_only=True)
class HubRevision:
    """A commit of a repository (40 hex digits), and the licence of its card, empty if it names none."""

    commit: str
    license: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HubFile:
    """A file at a commit: size in bytes, and the SHA-256 if the hub knows it, which it does for large files (LFS)."""

    path: str
    size: int
    sha256: FileHash | None


class ModelHub:
    """Asks a hub about the repository of ``source``. Methods raise FetchError, or DefinitionError for what it lacks."""

    def __init__(self, session: HttpSession, source: HubSource) -> None:
        self._session = session
        self._name = source.repository

    def find_revision(self, revision: str) -> HubRevision:
        """Return the commit of a branch, tag or commit."""
        url = f"{HUB}/api/models/{self._name}/revision/{quote(revision, safe='')}"
        answer, _ = self._ask(url, f"there is no revision `{revision}` of {self._name}")
        try:
            commit = answer.member("sha").text(40)
            if not _COMMIT.fullmatch(commit):
                raise answer.error("names no commit")
            card = answer.find("cardData")
            licence = card.find("license") if card is not None else None
            known = isinstance(licence.raw, str) if licence is not None else False
            return HubRevision(commit=commit, license=licence.text(100) if licence is not None and known else "")
        except MalformedError as error:
            raise self._malformed(error) from error

    def list_files(self, commit: str) -> tuple[HubFile, ...]:
        """Return all files at a commit, by path."""
        url, files = f"{HUB}/api/models/{self._name}/tree/{commit}?recursive=true", list[HubFile]()
        for _ in range(_MOST_PAGES):
            answer, following = self._ask(url, f"there is no commit {commit} of {self._name}")
            try:
                entries = answer.items(_MOST_FILES)
                files += [_file(entry) for entry in entries if entry.member("type").text() == "file"]
            except MalformedError as error:
                raise self._malformed(error) from error
            if not following:
                return tuple(sorted(files, key=lambda file: file.path))
            url = following
        raise FetchError(f"the hub lists {self._name} without an end")

    def url_of(self, commit: str, path: str) -> str:
        """Return the URL of a file at a commit."""
        return f"{HUB}/{self._name}/resolve/{commit}/{quote(path)}"

    def _ask(self, url: str, missing: str) -> tuple[JsonValue, str]:
        """Return an answer, and the URL of its next page or the empty string."""
        response = self._session.get(url, headers={"Accept": "application/json"})
        if response.status_code in {401, 403}:
            hint = "accept the model's conditions on its page, and set HF_TOKEN to a token that may read it"
            raise FetchError(f"{self._name}: the hub refused with {response.status_code}", hint=hint)
        if response.status_code == 404:
            raise DefinitionError(missing, hint="check the names, or set HF_TOKEN if it is private")
        if response.status_code != 200:
            raise FetchError(f"{self._name}: {host_of(str(response.url))} answered {response.status_code}")
        following = _NEXT.search(response.headers.get("Link", ""))
        try:
            answer = parse_json(response.content, limit=_MOST_BYTES, what="the hub's answer")
        except MalformedError as error:
            raise self._malformed(error) from error
        return answer, self._session.public_hub_url(following[1]) if following else ""

    def _malformed(self, error: MalformedError) -> FetchError:
        return FetchError(f"{self._name}: what the hub says is not as documented: {error}")


def _file(entry: JsonValue) -> HubFile:
    large = entry.find("lfs")
    return HubFile(
        path=entry.member("path").text(4096),
        size=(large or entry).member("size").integer(0, _MOST_SIZE),
        sha256=large.member("oid").parsed(FileHash, "a SHA-256") if large is not None else None,
    )
