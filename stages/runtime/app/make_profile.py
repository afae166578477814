"""Make the reference profile of the model: `python -m make_profile FOLDER`, with audio like that to be expected.

The profile is printed. It holds counts alone: the files need not be shipped, and cannot be read from it. A file that
cannot be used is named on standard error and left out. Exit codes: 0 made, 1 not.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from xoe_runtime.cpus import count_cpus
from xoe_runtime.drift_profile import make_profile, render_profile

from analysis import Analyser
from detector import load_detector
from observation import Observation
from problems import Problem
from segments import make_rules
from settings import parse_settings

RULES = make_rules(threshold=0.5, min_speech_ms=0, min_silence_ms=0, pad_ms=0)  # signals depend on none

Row = tuple[str, dict[str, float]]


def find_row(analyser: Analyser, path: Path) -> Row | None:
    """Return the hash and the signals of a file, None if it cannot be used."""
    data, seen = path.read_bytes(), Observation()
    try:
        analysis = analyser.analyse(io.BytesIO(data), RULES, lambda: False, seen)
    except Problem as problem:
        print(f"left out: {path}: {problem.message}", file=sys.stderr)  # noqa: T201 - a program's output
        return None
    return hashlib.sha256(data).hexdigest(), dict(seen.make_signals(analysis))


def main(folder: Path) -> int:
    """Print the profile of the files in a folder."""
    settings = parse_settings(os.environ)
    detector = load_detector(settings.model, settings.threads)
    analyser = Analyser(detector=detector, max_seconds=settings.max_seconds)
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    with ThreadPoolExecutor(count_cpus()) as pool:
        rows = [row for row in pool.map(lambda path: find_row(analyser, path), paths) if row]
    data = hashlib.sha256("".join(sorted(digest for digest, _ in rows)).encode()).hexdigest()
    info = detector.info
    try:
        profile = make_profile(info.name, info.sha256, data, [signals for _, signals in rows])
    except ValueError as error:
        print(f"error: {folder}: {error}", file=sys.stderr)  # noqa: T201
        return 1
    sys.stdout.write(render_profile(profile))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
