"""An interpreter that describes itself and runs nothing else: ``LOG VERSION PROGRAM [ARGUMENT …]``.

Sent as text to a real interpreter by the script that `PythonTrap` writes, so it imports nothing of buildkit. uv asks an
interpreter about itself by a program of its own, always of the same form; the answer names ``PROGRAM`` as the
interpreter, so that uv makes its build environments from it, and ``VERSION``, unless it is empty. Whatever else is to
be run is written to ``LOG`` (the
working folder and a NUL byte) and refused.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import redirect_stdout, suppress

QUERY = re.compile(
    r"import sys; sys\.path = \[[^;\n]*\] \+ sys\.path; from python\.get_interpreter_info import main; main\(\)"
)
"""uv's question. A build backend is called by a text of several lines, so none can look like it."""


def main(log: str, version: str, program: str, *arguments: str) -> None:
    """Answer uv's question, or log and refuse everything else."""
    if arguments[:-1] == ("-I", "-B", "-c") and QUERY.fullmatch(arguments[-1]):
        sys.stdout.write(answer(arguments[-1], program, version))
        return
    with open(log, "ab") as file:  # noqa: PTH123
        file.write(os.getcwdb() + b"\0")  # noqa: PTH109
    sys.exit("buildkit: no code of a package runs on this host while it is locked")


def answer(query: str, program: str, version: str) -> str:
    """Return what this interpreter says of itself, with ``program`` and ``version`` in its place."""
    said = io.StringIO()
    with redirect_stdout(said), suppress(SystemExit):
        exec(query, {"__name__": "__main__"})  # noqa: S102 - uv's own text, as QUERY holds
    facts = json.loads(said.getvalue())
    if version:
        minor = ".".join(version.split(".")[:2])
        numbers = {"python_full_version": version, "implementation_version": version, "python_version": minor}
        facts["markers"] = {**facts["markers"], **numbers}
    return json.dumps({**facts, "sys_executable": program, "sys_base_executable": program})


if __name__ == "__main__":
    main(*sys.argv[1:])
