"""The rules of the audit at rest about secrets in an image."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

CRITICAL, MEDIUM, NOTE = Severity.CRITICAL, Severity.MEDIUM, Severity.NOTE

SECRET_FILE = Rule(
    id="secret-in-layer",
    title="A layer contains a secret",
    severity=CRITICAL,
    why="Everyone who pulls the image has it, even if a later layer deletes the file.",
    advice="Remove it from the checkout, revoke it, and rebuild; pass it to the container at run time.",
    references=cis("4.10"),
)
SECRET_CONFIG = Rule(
    id="secret-in-config",
    title="The image's config contains a secret",
    severity=CRITICAL,
    why="Environment, labels, commands and history are visible to everyone who can see the image.",
    advice="Revoke it, and rebuild without it; pass it to the container at run time.",
    references=cis("4.10"),
)
SECRET_KEYS = Rule(
    id="published-key",
    title="An installed package has a private key in its tests, examples or documentation",
    severity=NOTE,
    why="Such a key is public; it does no harm unless something trusts it.",
    advice="Nothing, if it is not used.",
)
REPOSITORY = Rule(
    id="source-repository",
    title="The image contains a repository's history",
    severity=MEDIUM,
    why="It contains everything that was ever committed, including removed secrets, and often a login.",
    advice="Copy what git tracks, not the folder; buildkit does so.",
)
