"""References to images in registries, by the grammar of the distribution specification."""

from __future__ import annotations

import re
from dataclasses import replace

from buildkit.digest import Digest
from buildkit.errors import DefinitionError
from buildkit.lazy_dataclass import dataclass

_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_HOST = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]+\])(?::(?P<port>[0-9]{{1,5}}))?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_TAG = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_REF = re.compile(
    rf"(?P<host>{_HOST})/(?P<path>{_PART}(?:/{_PART})*)(?::(?P<tag>{_TAG}))?(?:@sha256:(?P<digest>[0-9a-f]{{64}}))?"
)
_LENGTH = 255  # of a name without tag and digest
_HINT = "write REGISTRY/NAME or REGISTRY/NAME:TAG in lower case, for instance ghcr.io/me/app:1.0"


@dataclass(frozen=True, slots=True)
class Ref:
    """``HOST/PATH`` of a repository, with a tag or a digest if given."""

    host: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.repository}{tag}" + (f"@{self.digest}" if self.digest else "")

    @property
    def repository(self) -> str:
        """The reference without tag and digest."""
        return f"{self.host}/{self.path}"

    def tagged(self, tag: str) -> Ref:
        """Return the same repository with another tag; raises DefinitionError for an invalid tag."""
        if not re.fullmatch(_TAG, tag):
            raise DefinitionError(
                f"`{tag[:200]}` is not a valid tag",
                hint="up to 128 letters, digits, `_`, `.` and `-`, not starting with `.` or `-`",
            )
        return replace(self, tag=tag, digest=None)


def parse_ref(text: str, what: str) -> Ref:
    """Parse a reference; ``what`` names its origin in messages. Raises DefinitionError."""
    found = _REF.fullmatch(text)
    host = found["host"] if found else ""
    if found is None or len(f"{host}/{found['path']}") > _LENGTH:
        raise DefinitionError(f"{what}: `{text[:200]}` is not a name in a registry", hint=_HINT)
    if not 0 < int(found["port"] or 443) < 1 << 16:
        raise DefinitionError(f"{what}: `{text[:200]}` names no registry, for there is no such port", hint=_HINT)
    if not ("." in host or ":" in host or host == "localhost"):
        raise DefinitionError(f"{what}: `{text[:200]}` names no registry, for `{host}` is not a host", hint=_HINT)
    digest = Digest(found["digest"]) if found["digest"] else None
    return Ref(host=host, path=found["path"], tag=found["tag"] or "", digest=digest)


def parse_repository(text: str, what: str) -> Ref:
    """Parse a reference without tag and digest; raises DefinitionError for one that has either."""
    ref = parse_ref(text, what)
    if ref.tag or ref.digest:
        raise DefinitionError(f"{what}: `{text[:200]}` must be a repository", hint=f"remove the tag: {ref.repository}")
    return ref
