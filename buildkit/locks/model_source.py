"""The source of a model: a wheel of an index, URLs, a repository of a model hub, or the repository itself.

A source is one string in ``models.toml`` and ``models.lock``; ``parse_model_source`` and ``str`` convert it without
loss, so that a lock is rendered byte for byte as it was read.
"""

from __future__ import annotations

from buildkit.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PypiSource:
    """A wheel of the package index that contains the files: ``pypi:NAME``; ``project`` may name extras."""

    project: str

    def __str__(self) -> str:
        return f"pypi:{self.project}"


@dataclass(frozen=True, slots=True, kw_only=True)
class UrlSource:
    """A file, or a folder of files, on the web: ``https://…``."""

    url: str

    def __str__(self) -> str:
        return self.url


SOURCES = "`pypi:NAME`, `hf:ORG/NAME`, `https://…` or `path:FOLDER`"
HUB = "https://huggingface.co"
"""The model hub, as locks name it; ``HF_ENDPOINT`` replaces it when something is fetched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource(UrlSource):
    """A repository of the model hub: ``hf:ORG/NAME``; a lock has the URLs of its files at one commit."""

    @property
    def repository(self) -> str:
        """The name of the repository: ``ORG/NAME``."""
        return self.url.removeprefix(f"{HUB}/")

    def __str__(self) -> str:
        return f"hf:{self.repository}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSource:
    """A file or folder of the repository itself: ``path:FOLDER``, relative to its root, as the user wrote it."""

    path: str

    def __str__(self) -> str:
        return f"path:{self.path}"


ModelSource = PypiSource | UrlSource | RepoSource


def parse_model_source(text: str) -> ModelSource:
    """Return the source that ``text`` names. Raises ValueError for an unknown scheme."""
    scheme, _, rest = text.partition(":")
    match scheme:
        case "pypi":
            return PypiSource(project=rest)
        case "https":
            return UrlSource(url=text)
        case "hf":
            return HubSource(url=f"{HUB}/{rest}")
        case "path":
            return RepoSource(path=rest)
        case _:
            raise ValueError(f"`{text}` is not a model source: {SOURCES}")
