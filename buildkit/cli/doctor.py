"""``nox -s doctor``: diagnose this host, print, and say by the exit code whether builds can work."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from buildkit.doctor.finding import Diagnosis, Status


def diagnose(cache: Path | None = None) -> tuple[Diagnosis, ...]:
    """Findings on this host; ``cache`` is the cache's folder, the usual one where it is not said."""
    from buildkit.doctor.checks import check_host
    from buildkit.doctor.probe import probe

    if cache is None:
        from buildkit.build.context import cache_folder

        cache = cache_folder()
    return check_host(probe(cache))


def main(argv: Sequence[str]) -> int:
    """Print the diagnosis; 1 if there is an error among the findings, 2 for wrong usage, else 0."""
    parser = argparse.ArgumentParser(
        prog="nox -s doctor --",
        description="Check this host: what is wrong, what it costs, and the one command that mends it.",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    try:
        options = parser.parse_args(list(argv))
    except SystemExit as stop:  # argparse has said why
        return stop.code if isinstance(stop.code, int) else 2
    findings = diagnose()
    sys.stdout.write(_render(findings, as_json=options.json))
    return 1 if any(finding.status is Status.ERROR for finding in findings) else 0


def _render(findings: tuple[Diagnosis, ...], *, as_json: bool) -> str:
    from buildkit.doctor.render import render_json, render_text

    if as_json:
        return render_json(findings)
    terminal = sys.stdout.isatty()
    colour = terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return render_text(findings, width=shutil.get_terminal_size().columns if terminal else 110, colour=colour)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
