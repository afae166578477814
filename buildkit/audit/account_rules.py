"""The rules of the audit at rest about accounts and the user of an image."""

from __future__ import annotations

from buildkit.audit.cis import cis
from buildkit.findings import Rule, Severity

HIGH, MEDIUM, LOW = Severity.HIGH, Severity.MEDIUM, Severity.LOW

USER_ROOT = Rule(
    id="user-root",
    title="The container runs as root",
    severity=HIGH,
    why="An attacker who takes over the service is root, one kernel flaw or one careless mount away from the host.",
    advice="Add an account ([[root.user]]) and name it: user = \"…\" in [config].",
    references=cis("4.1"),
)  # fmt: skip
USER_UNKNOWN = Rule(
    id="user-unknown",
    title="The image names a user that is not in it",
    severity=HIGH,
    why="Its container does not start, or runs as another user if the runtime guesses.",
    advice="Add the account ([[root.user]]), or name a number.",
    references=cis("4.1"),
)
USER_BY_NAME = Rule(
    id="user-by-name",
    title="The image names its user instead of giving the number",
    severity=LOW,
    why="Kubernetes cannot tell whether a name is root, and starts no such image under runAsNonRoot.",
    advice='Name the account\'s number: user = "65532" in [config].',
)
SECOND_ROOT = Rule(
    id="second-root",
    title="Another account has uid 0",
    severity=HIGH,
    why="It is root under an unexpected name.",
    advice="Remove the account.",
)
DUPLICATE_ACCOUNT = Rule(
    id="duplicate-account",
    title="Two accounts share a name or a uid",
    severity=LOW,
    why="It is undefined which of them a program means.",
    advice="Give each a unique one.",
)
EMPTY_PASSWORD = Rule(
    id="empty-password",
    title="An account has an empty password",
    severity=HIGH,
    why="Any program that checks it lets everyone in.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=("CVE-2019-5021",),
)
PASSWORD = Rule(
    id="password-set",
    title="An account has a password",
    severity=MEDIUM,
    why="Its hash is in every copy of the image, for offline guessing.",
    advice="Lock it: `!` or `*` in /etc/shadow.",
    references=cis("4.10"),
)
ACCOUNTS_WRITABLE = Rule(
    id="accounts-writable",
    title="The service's user may change the accounts",
    severity=HIGH,
    why="A process that may write /etc/passwd or /etc/shadow becomes root as soon as a privileged program reads them.",
    advice="Let root own them, with mode 644, and 640 for shadow.",
)
