"""Pickles behind each other, as files hold them, and what lies behind the last."""

from __future__ import annotations

from buildkit.scan.context import ScanContext
from buildkit.scan.pickle.legacy import MAGIC, STREAMS, TorchStorages
from buildkit.scan.pickle.machine import StreamEnd
from buildkit.scan.pickle.opcodes import run_pickle
from buildkit.scan.pickle.recognise import is_pickle
from buildkit.scan.pickle.watcher import PickleWatcher
from buildkit.scan.source import RangeSource, ScanSource

PADDING = 2**16  # zeros at the end that mean nothing


def recognise(head: bytes, source: ScanSource) -> bool:
    """Whether content begins with a pickle of any protocol."""
    return bool(head) and is_pickle(source)


def scan(context: ScanContext, source: ScanSource) -> None:
    """Scan every pickle of ``source``, and hand what lies behind them on."""
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
    scan_rest(context, source, offset)


def scan_stream(
    context: ScanContext, source: ScanSource, start: int, storages: TorchStorages | None = None
) -> StreamEnd:
    """Scan the stream at ``start``; what breaks it off is a gap, and what was found before counts.

    Raises:
        LimitError: the budget is used up.
    """
    context.budget.operate(0)
    judge = PickleWatcher(context, source, scan_stream)
    if storages is not None:
        judge.storages = storages
    try:
        ending = run_pickle(source, start, judge, context.budget.operate, context.budget.limits)
    finally:
        judge.report()
    if ending.why:
        context.gap(f"the pickle breaks off: {ending.why}", offset=ending.offset)
    elif ending.odd:
        context.gap(f"the pickle is bent: {ending.odd}")
    return ending


def scan_storages(context: ScanContext, source: ScanSource, offset: int, storages: TorchStorages) -> None:
    """Legacy PyTorch: numbers of tensors follow; what is more than they need is scanned."""
    total = storages.total()
    left = source.size - offset
    if total is None:
        context.gap("the sizes of the tensors cannot be told", offset=offset)
    elif total > left:
        context.gap(f"{total - left} bytes of the tensors are missing", offset=offset)
    elif total < left:
        scan_rest(context, source, offset + total)


def scan_rest(context: ScanContext, source: ScanSource, offset: int) -> None:
    """What lies behind the last pickle: padding, or a file of its own."""
    left = source.size - offset
    if left <= PADDING and not source.read(offset, left).strip(b"\0"):
        return
    context.descend(f"rest@{offset}", RangeSource(source, offset, left))
