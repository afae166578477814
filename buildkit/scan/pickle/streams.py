"""Consecutive pickles, as files hold them, and the bytes after the last."""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.pickle.legacy import MAGIC, STREAMS, TorchStorages
from buildkit.scan.pickle.machine import StreamEnd
from buildkit.scan.pickle.opcodes import run_pickle
from buildkit.scan.pickle.recognise import HIGHEST, PROTO, is_pickle
from buildkit.scan.pickle.watcher import PickleWatcher
from buildkit.scan.source import RangeSource, ScanSource

PADDING = 2**16  # trailing zeros that are ignored


def recognise(head: bytes, source: ScanSource) -> bool:
    """Return whether content begins with a pickle of any protocol."""
    return bool(head) and is_pickle(source)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan every pickle of ``source``; what follows them is scanned, too, but stays a gap, as no pickler writes it."""
    head = source.read(0, 2)
    if head[:1] == bytes((PROTO,)) and head[1:] > bytes((HIGHEST,)):
        context.gap(f"it is of protocol {head[1]}, which this scanner does not know")
    offset, count, legacy = 0, 0, False
    storages = TorchStorages()
    while True:
        ending = scan_stream(context, source, offset, storages)
        if ending.why:
            return
        offset, count = ending.offset, count + 1
        legacy = legacy or (count == 1 and isinstance(ending.top, int) and ending.top == MAGIC)
        if offset >= source.size:
            return
        if legacy and count == STREAMS:
            context.formats["PyTorch, legacy"] = None
            scan_storages(context, source, offset, storages)
            return
        if not is_pickle(source, offset, nested=False):
            break
        context.budget.member()
    if scan_rest(context, source, offset):
        context.gap(f"{source.size - offset} bytes follow the last pickle", offset=offset)


def scan_stream(
    context: ScanContext, source: ScanSource, start: int, storages: TorchStorages | None = None
) -> StreamEnd:
    """Scan the stream at ``start``; if it breaks, that is a gap, and earlier findings count.

    Raises:
        LimitError: the budget is used up.
    """
    context.budget.operate(0)
    watcher = PickleWatcher(context, source, scan_stream)
    if storages is not None:
        watcher.storages = storages
    try:
        ending = run_pickle(source, start, watcher, context.budget.operate, context.budget.limits)
    finally:
        watcher.report()
    if ending.why:
        context.gap(f"the pickle breaks off: {ending.why}", offset=ending.offset)
    elif ending.odd:
        context.gap(f"the pickle is malformed: {ending.odd}")
    return ending


def scan_storages(context: ScanContext, source: ScanSource, offset: int, storages: TorchStorages) -> None:
    """Legacy PyTorch: skip the tensors' numbers; scan bytes beyond them."""
    total = storages.total()
    left = source.size - offset
    if total is None:
        context.gap("the sizes of the tensors are unknown", offset=offset)
    elif total > left:
        context.gap(f"{total - left} bytes of the tensors are missing", offset=offset)
    elif total < left:
        scan_rest(context, source, offset + total)


def scan_rest(context: ScanContext, source: ScanSource, offset: int) -> bool:
    """Scan what follows the content proper as a file of its own, unless it is padding; return whether it did."""
    left = source.size - offset
    if left <= PADDING and not source.read(offset, left).strip(b"\0\t\r\n "):
        return False
    context.descend(f"rest@{offset}", RangeSource(source, offset, left))
    return True
