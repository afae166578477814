"""Other scanners' verdicts on files; each is given in a process of its own with limits on time and memory.

``python second_opinion_worker.py ENGINE…`` imports the scanners once, and forks for each scanner and file. A line of
standard input is ``["FILE", MOST, SECONDS, BYTES]`` in JSON: MOST bytes of the file are enough, and the others are
limits. It is answered by a line: for each engine its exit status (negative for a signal), its standard output and the
end of its standard error. Imports nothing of buildkit and never loads a file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from typing import IO, Any

_KEPT = 4096  # characters of an output


def picklescan(path: str, _most: int) -> tuple[bool, bool, list[str]]:
    """Return whether picklescan finds the file unsafe, whether it read all of it, and the names it reports.

    It reads what it needs, not a number of bytes.
    """
    from picklescan.scanner import scan_file_path

    result = scan_file_path(path)
    named = [f"{used.module}.{used.name}" for used in result.globals if used.safety.value == "dangerous"]
    return result.issues_count > 0, not result.scan_err and result.scanned_files > 0, named


def modelaudit_picklescan(path: str, most: int) -> tuple[bool, bool, list[str]]:
    """Return the same for modelaudit-picklescan, which holds ``most`` bytes in memory before it looks at the first.

    It also calls files malicious because it gave up on them, or found opcodes in numbers: of 120 files that libraries
    wrote, 31. Unsafe is a file in which it names what would be called.
    """
    from modelaudit_picklescan import PickleScanner, ScanOptions

    options = ScanOptions()
    options = dataclasses.replace(options, max_known_stream_read_bytes=min(most, options.max_known_stream_read_bytes))
    report = PickleScanner(options).scan_file(path)
    critical = [found for found in report.findings if found.severity.value == "critical"]
    named = [
        f"{found.rule_code}: {found.message}"
        for found in critical
        if found.details.get("import_reference") and "copyreg.extension" not in found.details["import_reference"]
    ]
    malicious = report.verdict.value == "malicious"
    return malicious and bool(named), not malicious and report.status.value == "complete", named


ENGINES = {"picklescan": picklescan, "modelaudit-picklescan": modelaudit_picklescan}
MODULES = {"picklescan": "picklescan.scanner", "modelaudit-picklescan": "modelaudit_picklescan"}


def judge(engine: str, path: str, most: int, seconds: int, memory: int) -> None:
    """Limit this process, run the scanner and print its verdict."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(2 * seconds)  # time spent waiting counts too
    unsafe, complete, issues = ENGINES[engine](path, most)
    sys.stdout.write(json.dumps({"unsafe": unsafe, "complete": complete, "issues": issues[:100]}))
    sys.stdout.flush()


def fork_and_judge(engine: str, question: Sequence[Any]) -> tuple[int, str, str]:
    """Run a scanner in a child; return its exit status, its standard output, and the end of its standard error.

    The question is the arguments of `judge` that follow the scanner.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        child = os.fork()
        if child:
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            return status, read_end(out), read_end(error)
        try:
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.dup2(out.fileno(), 1)
            os.dup2(error.fileno(), 2)
            judge(engine, *question)
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child never returns
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(1)


def read_end(file: IO[bytes]) -> str:
    """Return the end of a file."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _KEPT))
    return file.read().decode("utf-8", "replace")


def main(engines: list[str]) -> None:
    """Answer until standard input ends."""
    gc.disable()
    for engine in engines:
        with contextlib.suppress(Exception):  # the child says what is wrong with it
            importlib.import_module(MODULES[engine])
    gc.freeze()  # what was imported is no garbage, neither in the children nor at the end
    gc.enable()
    for line in sys.stdin:
        question = json.loads(line)
        answers = [fork_and_judge(engine, question) for engine in engines]
        sys.stdout.write(f"{json.dumps(answers)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
