"""Configurations whose ``_target_`` names what is called when they are read, as NeMo's archives have them."""

from __future__ import annotations

import re

from buildkit.findings import Severity
from buildkit.scan.archives import rules
from buildkit.scan.job import Job
from buildkit.scan.pickle.lists import Standing, stand
from buildkit.scan.source import Source

CONFIG = re.compile(r".*\.(ya?ml|json)")
TARGET = re.compile(rb"""_target_["']?\s*:\s*["']?([\w.]+)""")
LONGEST = 16 * 2**20
OWN = ("nemo.", "torch.nn.", "torch.optim.", "pytorch_lightning.", "lightning.", "omegaconf.", "torchaudio.transforms.")


def scan_targets(job: Job, name: str, source: Source) -> None:
    """Look for targets in a configuration that lies in an archive."""
    if not CONFIG.fullmatch(name):
        return
    if source.size > LONGEST:
        job.gap(f"{name} is longer than {LONGEST} bytes")
        return
    content = source.read(0, source.size)
    for found in TARGET.finditer(content):
        target = found[1].decode()
        module, _, last = target.rpartition(".")
        standing = stand(module, last, job.allowed)
        if standing is Standing.ALLOWED or (target.startswith(OWN) and not standing.denied):
            continue
        severity = Severity.CRITICAL if standing is Standing.CRITICAL else None
        if not standing.denied:
            severity = Severity.MEDIUM
        job.find(rules.TARGET, f"{name} calls {target}", offset=found.start(), severity=severity)
