"""Metadata that only a package's build backend knows: computed in the builder, or on this host if the user allows it.

A build backend is code of others. In the builder's container it has no network, nothing of the caller's environment,
and sees the package's own files alone. Its build requirements are those that the builder's locks pin.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from buildkit.errors import BuildError, BuildkitError
from buildkit.events import Emit, Note, step
from buildkit.hostile_json import MalformedError, parse_json
from buildkit.tools.python_trap import HostBuildError
from buildkit.tools.resolver import Describe, ProjectMetadata, ResolveRequest, resolve

HOST_BUILDS = "BUILDKIT_ALLOW_HOST_BUILDS"
"""The variable by which a user allows build backends on the host, whatever the repository."""

_MOST_BYTES = 16 << 20  # a report has the whole README
_MOST = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageResolver:
    """Resolves requirements; build backends run by ``describe``, or on this host if that fails and is ``allowed``."""

    emit: Emit
    describe: Describe | None = None
    allowed: bool = False
    _known: dict[Path, ProjectMetadata] = field(default_factory=dict)

    def resolve(self, request: ResolveRequest) -> str:
        """Return the text of the lock. Raises as the resolver does, and HostBuildError with advice."""
        while True:
            try:
                return resolve(replace(request, described=tuple(self._known.values())))
            except HostBuildError as error:
                why = self._learn(request, error)
                if not why:
                    continue
                if not self.allowed:
                    raise self._refusal(request, error, why) from error
                label = label_of(Path(error.tree), request.root)
                self.emit(Note(text=f"{label}: its build backend runs on this host, as you allow: {why}", warning=True))
                return resolve(replace(request, described=tuple(self._known.values()), host_builds=True))

    def _learn(self, request: ResolveRequest, error: HostBuildError) -> str:
        """Compute the metadata that was missing in the builder; return why that cannot be, or an empty string."""
        if request.locker != "uv":
            return f"{request.locker} takes no metadata from the builder"
        if self.describe is None:
            return "there is no builder stage"
        tree = Path(error.tree)
        if tree in self._known:
            return "the resolver does not take its metadata from the builder"
        try:
            with step(self.emit, f"describe {label_of(Path(error.tree), request.root)}", "lock"):
                self._known[tree] = self.describe(tree)
        except BuildkitError as failure:
            if not self.allowed:
                raise
            return failure.message
        return ""

    def _refusal(self, request: ResolveRequest, error: HostBuildError, why: str) -> HostBuildError:
        label = label_of(Path(error.tree), request.root)
        static = "" if request.locker == "uv" else 'set locker = "uv", which asks no backend for static metadata; or '
        return HostBuildError(
            f"{label}: only its build backend knows its metadata, and would run on this host: {why}",
            tree=error.tree,
            hint=f"{static}write version and dependencies in its [project] table, or add a builder stage; if you trust "
            f"the packages: nox -s lock -- --allow-host-builds",
        )


def label_of(tree: Path, root: Path) -> str:
    """Return what people call a source: its path in the repository, or the name and version of an sdist."""
    if tree == root.resolve():
        return "./"
    if tree.is_relative_to(root.resolve()):
        return f"./{tree.relative_to(root.resolve())}"
    try:
        lines = (tree / "PKG-INFO").read_text("utf-8", "replace").splitlines()
    except OSError:
        return tree.name
    fields = dict(line.split(": ", 1) for line in lines[: lines.index("") if "" in lines else None] if ": " in line)
    return f"{fields.get('Name', tree.name)} {fields.get('Version', '')}".strip()[:100]


def parse_report(data: bytes, label: str) -> ProjectMetadata:
    """Parse pip's installation report (version 1) of the one package ``label``. Raises BuildError."""
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    def name(text: str) -> str:
        return canonicalize_name(text, validate=True)

    try:
        (installed,) = parse_json(data, limit=_MOST_BYTES, what="pip's report").member("install").row(1)
        found = installed.member("metadata")
        python, requires, extras = map(found.find, ("requires_python", "requires_dist", "provides_extra"))
        return ProjectMetadata(
            name=found.member("name").parsed(name, "a name"),
            version=str(found.member("version").parsed(Version, "a version")),
            requires_dist=tuple(
                str(item.parsed(Requirement, "a requirement")) for item in (requires.items(_MOST) if requires else ())
            ),
            requires_python=str(python.parsed(SpecifierSet, "a version specifier")) if python else "",
            provides_extra=tuple(item.parsed(name, "a name") for item in (extras.items(_MOST) if extras else ())),
        )
    except MalformedError as error:
        raise BuildError(f"{label}: what its build backend says is not metadata: {error}") from error
