"""Something happens to a process just before its N-th act: opening a file to write, renaming, starting a program, ….

On PYTHONPATH of a build: ``ACTS_AT=N`` says when, ``ACTS_SIGNAL`` which signal it then gets (KILL), ``ACTS_FILL=FILE``
that instead the disk of that file is filled. ``ACTS_FROM=MODULE`` begins to count when that module is there, and
``ACTS_COUNT=FILE`` has the number of acts written at the end.
"""

import atexit
import os
import signal
import sys
from pathlib import Path

_NAMES = {
    "fcntl.flock",
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "shutil.rmtree",
    "sqlite3.connect",
    "subprocess.Popen",
}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_done = 0


def _watch(event, arguments):
    global _done
    if event not in _NAMES and not (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
        return
    if _from and _from not in sys.modules:
        return
    _done += 1
    if _done == _at and _fill:
        _fill_up()
    elif _done == _at:
        if event == "open" and arguments[2] & os.O_TRUNC and isinstance(arguments[0], str):
            os.open(arguments[0], arguments[2], 0o600)  # half done: emptied, and nothing written yet
        os.kill(os.getpid(), _signal)


def _fill_up():
    handle = os.open(_fill, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for size in (1 << 20, 4096, 1):
        try:
            while os.write(handle, bytes(size)):
                pass
        except OSError:
            continue
    os.close(handle)


_orders = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ACTS_")}  # not for children
if _orders:
    _at = int(_orders.get("ACTS_AT", "0"))
    _signal = signal.Signals[f"SIG{_orders.get('ACTS_SIGNAL', 'KILL')}"]
    _fill = _orders.get("ACTS_FILL", "")
    _from = _orders.get("ACTS_FROM", "")
    if "ACTS_COUNT" in _orders:
        atexit.register(lambda: Path(_orders["ACTS_COUNT"]).write_text(str(_done)))
    sys.addaudithook(_watch)
