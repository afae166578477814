"""A second, simple net: calls of globals by pickle opcodes at any offset, found without a stack or a memo.

It shares nothing with the machine but the lists of names, so that a mistake in one of the two is not one of both. A
global is named by lines (GLOBAL, INST) or by texts before STACK_GLOBAL; it counts if the opcodes that follow make
arguments and a call. Numbers and plain text do not get that far: most of their bytes are no opcodes.
"""

from __future__ import annotations

import codecs
import pickletools
import re
import warnings
from collections.abc import Iterator
from functools import cache
from itertools import takewhile
from typing import NamedTuple

from buildkit.lazy_dataclass import dataclass
from buildkit.scan.context import ScanContext
from buildkit.scan.limits import LimitError
from buildkit.scan.pickle import rules
from buildkit.scan.pickle.lists import Standing, classify, denied_names, find_denial
from buildkit.scan.pickle.python2_names import MODULES, NAMES, python3_name
from buildkit.scan.source import RangeSource, ScanSource

BLOCK = 2**20
AROUND = 2**13  # bytes before and after a block in which a call may begin and end
NEAR = 2 * 409  # bytes of two texts
FOLLOWED = 2000  # opcodes; what has more is a pickle
FOLLOWED_FIRST = 1_000_000  # opcodes that are followed in any content, and one more for every byte
TEXTS = 24  # texts before a STACK_GLOBAL that may be its names
MOST = 16  # calls of one content; more would tell nothing new
NUMBERS = 2**16  # bytes of numbers that are searched: loaders read a pickle from the beginning
LONGEST = 200  # bytes of a name
LONGEST_LINE = 400  # bytes of one that is a line, with escapes
WIDTHS = {ord(op.code): op.arg.n if op.arg else 0 for op in pickletools.opcodes}
LINES = {ord("c"): 2, ord("i"): 2}
COUNTED = {-2: 1, -3: 4, -4: 4, -5: 8}  # how pickletools marks an argument whose length takes so many bytes
MARK, TUPLE, STOP = b"(t."
MAKE_ARGUMENTS = frozenset(b")\x85\x86\x87")
CALL = frozenset(b"R\x81\x92")
TOLD = frozenset((*CALL, *MAKE_ARGUMENTS, MARK, TUPLE, *b"o"))  # the opcodes that ``OpcodeNet.follow`` looks at
IDENTIFIER = rb"[A-Za-z_][\w.]{0,199}"
OPCODES = b"".join(re.escape(bytes((code,))) for code in sorted(WIDTHS))
BY_LINES = re.compile(rb"\n(?=(" + IDENTIFIER + rb")\n[" + OPCODES + rb"])")
WORD = bytes(code for code in range(128) if chr(code).isalnum() or code in b"_.")
MEMO = re.compile(rb"(?:\x94|q.|r.{4}|p\d+\n)?", re.DOTALL)
IN_NAME = b"[" + re.escape(bytes(code for code in range(256) if chr(code).isalnum() or code in b"_.")) + b"]"
IN_LINE = IN_NAME + rb"{0,400}+(?:\\[^\n]{0,399})?"  # a name; behind an escape it may have any byte
PUSH = re.compile(  # a class first, which is searched for quickly
    rb"[\x8cUXT\x8dVS](?=(?<=[\x8cU])(?P<short>[\x01-\xc8])[A-Za-z_\xc2-\xf4]|(?<=[XT])(?P<long>[\x01-\xc8])\0\0\0"
    rb"|(?<=\x8d)(?P<longest>[\x01-\xc8])\0{7}|(?<=V)(?P<line>" + IN_LINE + rb")\n"
    rb"|(?<=S)(?P<quote>['\"])(?P<quoted>" + IN_LINE + rb")(?P=quote)\n)"
)
NAME = re.compile(r"[^\W\d][\w.]*")
SEEN_THROUGH = 8  # opcodes after a STACK_GLOBAL that one expression passes, before they are followed one by one
PASSED_LINE = rb"[^\n]{0,512}+\n"


def make_by_texts() -> re.Pattern[bytes]:
    """Return what finds a STACK_GLOBAL after which a call may come: opcodes that cannot lead to one are passed quickly.

    What it passes has a length that an expression can tell. So it stops at a call, at an argument whose length counts,
    and after a few opcodes; the lengths of long arguments are those that end within a block.
    """
    kinds: dict[int, list[int]] = {}
    for code, width in WIDTHS.items():
        kinds.setdefault(-2 if code in CALL else -6 if code in LINES else width, []).append(code)
    some = {width: b"[" + re.escape(bytes(codes)) + b"]" for width, codes in kinds.items()}
    plain = b"[" + re.escape(bytes(code for code in kinds[0] if code != STOP)) + b"]"
    fixed = b"|".join(some[width] + b".{%d}" % width for width in (1, 4, 2, 8))
    one_line, two_lines = some[-1] + PASSED_LINE, some[-6] + PASSED_LINE * 2
    passed = b"(?:" + b"|".join((plain + b"{1,8}+", one_line, fixed, two_lines)) + b")"
    long = rb"[" + re.escape(bytes((*kinds[-3], *kinds[-4]))) + rb"]..[\0-\x10]\0|" + some[-5] + rb"..[\0-\x10]\0{5}"
    followed = b"|".join((some[-2], long, some[-1], some[-6], passed))
    begins = b"(?=[" + OPCODES + b"])"
    return re.compile(rb"\x93(?=" + begins + passed + b"{0,%d}+(?:" % (SEEN_THROUGH - 1) + followed + b"))", re.DOTALL)


BY_TEXTS = make_by_texts()


@dataclass(frozen=True, slots=True)
class FoundCall:
    """A call of ``module.name``, which the opcode at ``offset`` fetches."""

    module: str
    name: str
    offset: int


@dataclass(frozen=True, slots=True)
class Text:
    """A text that an opcode from ``start`` to ``end`` pushes."""

    value: str
    start: int
    end: int


class Reach(NamedTuple):
    """What opcodes lead to: a call with arguments, and STOP; whatever goes on for very long counts as both."""

    called: bool
    stopped: bool


def catch_pickles(context: ScanContext, source: ScanSource, *, guessed: bool) -> None:
    """Report the calls that no other finding names: anywhere if the format is guessed, else at the start."""
    known = [finding.what for finding in context.findings if finding.member.startswith(context.member)]
    for call in find_calls(source, context.allowed) if guessed else find_calls_at_start(source):
        path = f"{call.module}.{call.name}"
        if not any(path in what for what in known):
            context.find(rules.STRAY, f"calls {path}", offset=call.offset)


def find_calls(source: ScanSource, allowed: frozenset[str] = frozenset()) -> list[FoundCall]:
    """Return the first calls by opcodes of globals that are not allowed.

    Raises:
        LimitError: more of the content is opcodes than can be followed.
    """
    net = OpcodeNet(FOLLOWED_FIRST + source.size)
    found: dict[tuple[str, str], FoundCall] = {}
    for base in range(0, source.size, BLOCK):
        start = max(0, base - AROUND)
        block = source.read(start, base - start + BLOCK + AROUND)
        for call in net.find_in_block(block, base - start):
            name = call.module, call.name
            if name not in found and classify(*python3_name(*name), allowed) is not Standing.ALLOWED:
                found[name] = FoundCall(*name, start + call.offset)
            if len(found) >= MOST:
                return list(found.values())
    return list(found.values())


def find_calls_at_start(source: ScanSource) -> list[FoundCall]:
    """Return the calls in the beginning of what should be numbers."""
    return find_calls(RangeSource(source, 0, min(source.size, NUMBERS)))


@dataclass(slots=True)
class OpcodeNet:
    """Finds the calls of one content, block by block; ``left`` is how many opcodes it still follows."""

    left: int

    def find_in_block(self, block: bytes, begin: int) -> Iterator[FoundCall]:
        """Yield the calls whose global is named between ``begin`` and the end of the block proper."""
        for found in find_until(begin + BLOCK, BY_LINES.finditer(block, max(0, begin - 1))):
            yield from self.read_lines(block, found)
        for found in find_until(begin + BLOCK, BY_TEXTS.finditer(block, begin)):
            if self.follow(block, found.end()).called:
                yield from self.read_texts(block, found.start())

    def read_lines(self, block: bytes, found: re.Match[bytes]) -> Iterator[FoundCall]:
        """Yield the calls of a global whose name is the line ``found``, and whose module ends the line before."""
        before = block[max(0, found.start() - LONGEST) : found.start()]
        start = found.start() - len(before) + len(before.rstrip(WORD))
        if start > found.start() - 2:
            return
        after, name = found.end(1) + 1, found[1].decode()
        for at in find_all(block, b"i", start, found.start() - 1):
            module = block[at + 1 : found.start()].decode()
            if module.partition(".")[0] in denied_modules() and is_denied(module, name) and self.has_mark(block, at):
                yield FoundCall(module, name, at)
        places = list(find_all(block, b"c", start, found.start() - 1))
        if places:
            reach = self.follow(block, after)
            places = [at for at in places if reach.called or self.is_object(block, at, after)]
            calls = [FoundCall(block[at + 1 : found.start()].decode(), name, at) for at in places]
            yield from choose_calls([call for call in calls if NAME.fullmatch(call.module)], whole=reach.stopped)

    def is_object(self, block: bytes, at: int, after: int) -> bool:
        """Return whether the global at ``at`` begins a group that OBJ calls."""
        return block[at - 1 : at] == b"(" and self.follow(block, after, b"o").called

    def has_mark(self, block: bytes, end: int) -> bool:
        """Return whether opcodes, at least one, lead from a MARK to ``end``, where INST calls with what they push."""
        at = end
        for _ in range(16):
            at = block.rfind(b"(", max(0, end - 4096), at)
            if at < 0:
                return False
            place, count = at, 0
            while 0 <= place < end:
                place, count = skip_opcode(block, place), count + 1
            self.spend(count)
            if place == end and count > 1:
                return True
        return False

    def follow(self, block: bytes, at: int, call: bytes = b"") -> Reach:
        """Follow the opcodes from ``at``; ``call`` is one that calls without a tuple of arguments."""
        marked = ready = called = False
        count, size = 0, len(block)
        while 0 <= at < size and count < FOLLOWED:
            code = block[at]
            if code == STOP:
                break
            if code in TOLD:
                called = called or (code in CALL and ready) or code in call
                marked = marked or code == MARK
                ready = ready or code in MAKE_ARGUMENTS or (code == TUPLE and marked)
            at, count = skip_opcode(block, at), count + 1
        self.spend(count)
        if count == FOLLOWED:
            return Reach(called=True, stopped=True)
        return Reach(called, stopped=0 <= at < size)

    def read_texts(self, block: bytes, at: int) -> Iterator[FoundCall]:
        """Yield the calls of a global that the STACK_GLOBAL at ``at`` fetches: by the texts before it, else by any."""
        texts = list(find_texts(block, max(0, at - NEAR), at))
        name = next((text for text in texts if skip_memo(block, text.end) == at), None)
        module = next((text for text in texts if name and skip_memo(block, text.end) == name.start), None)
        self.spend(NEAR)
        if name and module:
            yield FoundCall(module.value, name.value, at)
            return
        self.spend(AROUND)
        texts = list(find_texts(block, max(0, at - AROUND), at))
        values = list(dict.fromkeys(text.value for text in texts))[-TEXTS:]
        pairs = ((one, other) for one in values for other in values if one != other)
        yield from (FoundCall(one, other, at) for one, other in pairs if is_denied(one, other))

    def spend(self, count: int) -> None:
        """Count opcodes that were followed.

        Raises:
            LimitError: they are more than belong to other content than pickles.
        """
        self.left -= count
        if self.left < 0:
            raise LimitError("too much of it is opcodes of pickles that begin nowhere")


def find_until(end: int, matches: Iterator[re.Match[bytes]]) -> Iterator[re.Match[bytes]]:
    """Yield the matches that begin before ``end``; what they look at may lie behind it."""
    return takewhile(lambda found: found.start() < end, matches)


def find_all(block: bytes, code: bytes, start: int, end: int) -> Iterator[int]:
    """Yield where the byte ``code`` is between ``start`` and ``end``."""
    at = block.find(code, start, end)
    while at >= 0:
        yield at
        at = block.find(code, at + 1, end)


def choose_calls(calls: list[FoundCall], *, whole: bool) -> Iterator[FoundCall]:
    """Yield what a global may be whose module begins after any ``c`` in a word: the worst names, else the longest.

    A name on no list counts in a ``whole`` stream only: a list of words may hold one of letters that are opcodes.
    """
    standings = [classify(*python3_name(call.module, call.name)) for call in calls]
    denied = [call for call, standing in zip(calls, standings, strict=True) if standing.denied]
    yield from denied or (calls[:1] if whole and Standing.ALLOWED not in standings else ())


@cache
def denied_modules() -> frozenset[str]:
    """Return the first parts of all modules on the deny-list, and of those of Python 2 that mean them."""
    denied = {module.partition(".")[0] for _, names in denied_names() for module in (*names.exact, *names.trees)}
    older = {module for module, newer in MODULES.items() if newer.partition(".")[0] in denied}
    return frozenset(denied | {module.partition(".")[0] for module in older} | {module for module, _ in NAMES})


def is_denied(module: str, name: str) -> bool:
    """Return whether the deny-list has a global."""
    return find_denial(*python3_name(module, name)) is not Standing.UNKNOWN


def skip_opcode(block: bytes, at: int) -> int:
    """Return where the opcode after the one at ``at`` begins; negative for a byte that is no opcode."""
    code = block[at]
    width = WIDTHS.get(code)
    if width is None:
        return -1
    at += 1
    if width >= 0:
        return at + width
    if size := COUNTED.get(width):
        return at + size + int.from_bytes(block[at : at + size], "little")
    for _ in range(LINES.get(code, 1)):
        at = block.find(b"\n", at) + 1
        if not at:
            return -1
    return at


def skip_memo(block: bytes, at: int) -> int:
    """Return where the opcode after ``at`` begins, if there is one that fills the memo; else ``at``."""
    found = MEMO.match(block, at)
    return found.end() if found else at


def find_texts(block: bytes, start: int, end: int) -> Iterator[Text]:
    """Yield the texts that look like names and are pushed between ``start`` and ``end``."""
    for found in PUSH.finditer(block, start, end):
        at, value = found.start(), ""
        if count := found["short"] or found["long"] or found["longest"]:
            at = found.start() + (2 if found["short"] else 5 if found["long"] else 9)
            raw = block[at : at + count[0]]
            at, value = at + count[0], raw.decode("utf-8", "replace")
        elif line := found["line"]:
            at, value = at + len(line) + 2, decode_line(line, "raw-unicode-escape")
        elif quoted := found["quoted"]:
            at, value = at + len(quoted) + 4, decode_line(quoted, "unicode-escape")
        if NAME.fullmatch(value):
            yield Text(value, found.start(), at)


def decode_line(line: bytes, codec: str) -> str:
    """Resolve the escapes of a text that is a line; empty if they are malformed, or the line is too long."""
    if b"\\" not in line:
        return line.decode("latin-1")
    if len(line) > LONGEST_LINE:
        return ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # for invalid escapes
        try:
            return codecs.decode(line, codec)
        except UnicodeDecodeError:
            return ""
