"""How often verdicts of drift are right: ``python -m tests.xoe_runtime.simulate_drift [WINDOWS]``, for docs/drift.md.

Values are normal, a reference has 2,000. A shift is in standard deviations; ``wider`` has 1.5 times the deviation.
"""

from __future__ import annotations

import sys

import numpy as np

from buildkit.xoe_runtime.drift import (
    DRIFTED,
    count_needed,
    find_pvalue,
    make_edges,
    make_sketch,
    measure_ks,
    measure_psi,
)

REFERENCE = 2000
CHANGES = {"none": (0.0, 1.0), "0.25 σ": (0.25, 1.0), "0.5 σ": (0.5, 1.0), "1 σ": (1.0, 1.0), "wider": (0.0, 1.5)}


def main(windows: int) -> None:
    random = np.random.default_rng(19)
    print("| bins | values a window | change | PSI > 0.2 | KS p < 0.05 | KS p < 0.001 |\n|---|---|---|---|---|---|")
    for bins in (10, 20):
        needed = count_needed((REFERENCE // bins,) * bins)
        for size in (50, needed, 1000, 5000):
            for change, (shift, scale) in CHANGES.items():
                found = [judge(random, bins, size, shift, scale) for _ in range(windows)]
                shares = [sum(one[number] for one in found) / windows for number in range(3)]
                told = f"{size}{' (too few)' if size < needed else ''}"
                print(f"| {bins} | {told} | {change} | {' | '.join(f'{share:.1%}' for share in shares)} |")


def judge(random: np.random.Generator, bins: int, size: int, shift: float, scale: float) -> tuple[bool, bool, bool]:
    before = random.normal(size=REFERENCE)
    edges = make_edges(before, bins)
    reference = make_sketch(before, edges).counts
    found = np.searchsorted(edges, random.normal(shift, scale, size))
    seen = np.bincount(found, minlength=len(edges) + 1).tolist()
    pvalue = find_pvalue(measure_ks(reference, seen), REFERENCE, size)
    return measure_psi(reference, seen) > DRIFTED, pvalue < 0.05, pvalue < 0.001


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
