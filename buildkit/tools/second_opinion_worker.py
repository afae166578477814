"""Another scanner's verdict on a file, as JSON on standard output; runs in its own process with resource limits.

``python second_opinion_worker.py ENGINE FILE SECONDS BYTES``. Imports nothing of buildkit and never loads the file.
"""

from __future__ import annotations

import json
import resource
import signal
import sys


def picklescan(path: str) -> tuple[bool, bool, list[str]]:
    """Return whether picklescan finds the file unsafe, whether it read all of it, and the names it reports."""
    from picklescan.scanner import scan_file_path

    result = scan_file_path(path)
    named = [f"{used.module}.{used.name}" for used in result.globals if used.safety.value == "dangerous"]
    return result.issues_count > 0, not result.scan_err and result.scanned_files > 0, named


def modelaudit_picklescan(path: str) -> tuple[bool, bool, list[str]]:
    """Return the same for modelaudit-picklescan.

    It also calls files malicious because it gave up on them, or found opcodes in numbers: of 120 files that libraries
    wrote, 31. Unsafe is a file in which it names what would be called.
    """
    from modelaudit_picklescan import scan_file

    report = scan_file(path)
    critical = [found for found in report.findings if found.severity.value == "critical"]
    named = [
        f"{found.rule_code}: {found.message}"
        for found in critical
        if found.details.get("import_reference") and "copyreg.extension" not in found.details["import_reference"]
    ]
    malicious = report.verdict.value == "malicious"
    return malicious and bool(named), not malicious and report.status.value == "complete", named


def main(engine: str, path: str, seconds: int, memory: int) -> None:
    """Limit this process, run the scanner and print its verdict."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(2 * seconds)  # time spent waiting counts too
    ask = {"picklescan": picklescan, "modelaudit-picklescan": modelaudit_picklescan}[engine]
    unsafe, complete, issues = ask(path)
    sys.stdout.write(json.dumps({"unsafe": unsafe, "complete": complete, "issues": issues[:100]}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
