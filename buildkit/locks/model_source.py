"""The source of a model: a wheel of an index, URLs, a hub, a registry, the repository itself, or another model.

A source is one string in ``models.toml`` and ``models.lock``; ``parse_model_source`` and ``str`` convert it without
loss, so that a lock is rendered byte for byte as it was read.
"""

from __future__ import annotations

import re

from buildkit.digest import FileHash
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


SOURCES = "`pypi:NAME`, `hf:ORG/NAME`, `oci:REGISTRY/NAME:TAG`, `https://…` or `path:FOLDER`"
_OCI = "oci://"
_PLACE = re.compile(
    r"oci://(?P<ref>[^@#\s]+@sha256:[0-9a-f]{64})#sha256:(?P<blob>[0-9a-f]{64}):(?P<size>[0-9]{1,16})(?::(?P<member>.+))?",
    re.DOTALL,
)
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
class OciSource(UrlSource):
    """An artifact or an image of a registry: ``oci:REF``; a lock has the places of its files (`ArtifactPlace`)."""

    @property
    def ref(self) -> str:
        """The reference, with tag or digest as the user wrote it."""
        return self.url.removeprefix(_OCI)

    def __str__(self) -> str:
        return f"oci:{self.ref}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPlace:
    """Where a file of an artifact is: a blob of ``size`` bytes of the manifest ``ref``, or a ``member`` of its tar.

    Its text is that of a lock: ``oci://NAME@sha256:MANIFEST#sha256:BLOB:SIZE`` and, for a member, ``:PATH``.
    """

    ref: str
    blob: FileHash
    size: int
    member: str = ""

    def __str__(self) -> str:
        return f"{_OCI}{self.ref}#sha256:{self.blob.hex}:{self.size}" + (f":{self.member}" if self.member else "")


def parse_artifact_place(text: str) -> ArtifactPlace:
    """Parse the place of a file of an artifact; raises ValueError."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text[:200]}` is not the place of a file in a registry")
    blob, size = FileHash(found["blob"]), int(found["size"])
    return ArtifactPlace(ref=found["ref"], blob=blob, size=size, member=found["member"] or "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RepoSource:
    """A file or folder of the repository itself: ``path:FOLDER``, relative to its root, as the user wrote it."""

    path: str

    def __str__(self) -> str:
        return f"path:{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSource:
    """Another model, of which a tool made this one: ``derive:NAME``, in locks alone."""

    of: str

    def __str__(self) -> str:
        return f"derive:{self.of}"


ModelSource = PypiSource | UrlSource | RepoSource | DerivedSource


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
        case "oci":
            return OciSource(url=f"{_OCI}{rest}")
        case "path":
            return RepoSource(path=rest)
        case "derive":
            return DerivedSource(of=rest)
        case _:
            raise ValueError(f"`{text}` is not a model source: {SOURCES}")
