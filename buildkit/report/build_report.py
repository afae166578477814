"""The report of a build: a value, its JSON (``--json``), and the table printed at the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any, TextIO

from buildkit.command_names import name_command
from buildkit.lazy_dataclass import dataclass
from buildkit.report.text import format_bytes, format_seconds, sanitize_line
from buildkit.tools.usage import WorkCost


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLine:
    """One layer of a finished build; ``seconds`` and ``why`` apply to layers that were built."""

    name: str
    kind: str
    key: str
    diff_id: str
    digest: str
    size: int
    source: str
    seconds: float
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result of a build. ``digest`` is of the manifest in local storage; docs/report.md explains the bytes.

    ``delivery`` says where the image went (``import``, ``store``, ``docker``; empty: nowhere), ``imported`` the bytes
    that this moved, ``is_new`` whether it was not there before. ``starts`` tells whether a container of the image has a
    command to run. ``arch`` is the processor of an image that this machine does not run by itself.
    """

    stage: str
    image: str
    digest: str
    seconds: float
    phases: Mapping[str, WorkCost]
    layers: tuple[LayerLine, ...]
    fetched: int
    built: int
    imported: int
    pushed: int = 0
    pushed_as: Mapping[str, str] = field(default_factory=dict)
    why_skopeo: str = ""  # pushed, and not our own client
    delivery: str = "import"
    is_new: bool = False
    starts: bool = False
    arch: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the stable form that docs/report.md describes."""
        by_skopeo = {"by": "skopeo", "why": self.why_skopeo} if self.why_skopeo else {}
        return {
            "stage": self.stage,
            **({"arch": self.arch} if self.arch else {}),
            "image": self.image,
            "digest": self.digest,
            "delivery": self.delivery or None,
            "seconds": round(self.seconds, 3),
            "phases": {name: round(spent.seconds, 3) for name, spent in sorted(self.phases.items())},
            "timings": {name: spent.as_json() for name, spent in sorted(self.phases.items())},
            "layers": [
                {
                    "name": layer.name,
                    "kind": layer.kind,
                    "key": layer.key,
                    "diff_id": layer.diff_id,
                    "digest": layer.digest,
                    "size": layer.size,
                    "source": layer.source,
                    "seconds": round(layer.seconds, 3),
                    "why": layer.why,
                }
                for layer in self.layers
            ],
            "bytes": {"fetched": self.fetched, "built": self.built, "imported": self.imported, "pushed": self.pushed},
            "pushed": [{"ref": ref, "digest": digest, **by_skopeo} for ref, digest in self.pushed_as.items()],
        }


_WORDS = {"import": "imported", "store": "unpacked", "docker": "loaded", "": ""}


def print_report(report: Report, out: TextIO) -> None:
    """Print a table of what was built and why, and a last line; only that line if nothing was built."""
    built = [layer for layer in report.layers if layer.source == "built"]
    if built:
        from buildkit.report.table import print_table

        rows = [(x.name, format_bytes(x.size), format_seconds(x.seconds), x.why) for x in built]
        print_table(f"{report.stage}: built", ("layer", "size", "seconds", "why"), rows, out)
    print(render_last_line(report), file=out, flush=True)


def render_next(reports: Sequence[Report]) -> str:
    """Return the line that names the next command: of the first new image that can run; empty if there is none."""
    new = (
        report.stage for report in reports if report.delivery and report.starts and report.is_new and not report.arch
    )
    stage = next(new, "")
    return f"run it: {name_command('run', stage)}" if stage else ""


def print_timings(report: Report, out: TextIO) -> None:
    """Print a table of phases, the longest first."""
    from buildkit.report.table import print_table

    ordered = sorted(report.phases.items(), key=lambda item: -item[1].seconds)
    rows = [
        (
            name,
            format_seconds(x.seconds),
            format_seconds(x.usage.cpu),
            format_bytes(x.usage.read),
            format_bytes(x.usage.written),
        )
        for name, x in ordered
    ]
    print_table(f"{report.stage}: timings", ("phase", "seconds", "cpu", "read", "written"), rows, out)


def render_last_line(report: Report) -> str:
    """Return the line that summarizes the build."""
    built = sum(layer.source == "built" for layer in report.layers)
    reused = [layer for layer in report.layers if layer.source != "built"]
    what = f"{built} built, " if built else ("nothing to build, " if report.is_new else "nothing changed, ")
    arch = f" for {report.arch}" if report.arch else ""
    parts = [
        f"{report.stage}{arch}: {what}{len(reused)} reused ({format_bytes(sum(x.size for x in reused))})",
        f"{format_bytes(report.fetched)} fetched" if report.fetched else "",
        _format_delivery(report),
        f"{format_bytes(report.pushed)} pushed" if report.pushed else "nothing pushed" * bool(report.pushed_as),
        format_seconds(report.seconds),
    ]
    lines = [", ".join(filter(None, parts))]
    if report.delivery or not report.pushed_as:
        where = report.image if report.delivery else f"not delivered as {report.image}"
        lines += [where, report.digest]
    # an image of an index is pushed by its digest alone
    lines += [f"pushed {ref.partition('@')[0]}@{digest}" for ref, digest in report.pushed_as.items()]
    return "\n".join(map(sanitize_line, lines))


def _format_delivery(report: Report) -> str:
    """Return what delivering moved; the image store says nothing where layers became trees while they were packed."""
    if report.imported:
        return f"{format_bytes(report.imported)} {_WORDS[report.delivery]}"
    return "nothing imported" if report.delivery == "import" else ""
