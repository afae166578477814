"""Random pickle streams: opcodes that mostly fit the stack, arguments in every spelling, and then a few bent bytes."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from random import Random

NAMES = (
    ("posix", "system"),
    ("os", "path.join"),
    ("collections", "OrderedDict"),
    ("builtins", "list"),
    ("numpy", "dtype"),
    ("some.where", "Thing"),
    ("__builtin__", "eval"),
    ("caf\u00e9", "\u00fcber"),
)
HONEST = [
    pickle.dumps(value, protocol=protocol)
    for value in ({"a": [1, "x", b"y", 2.5, 1 << 70]}, [("a", "b"), {"c": None, "d": {1, 2}}], b"z" * 300, 1 + 2j)
    for protocol in range(6)
]
SPACES = ("", "", "", " ", "\t", "\x0b", "\r", "\0", "\0x")


def make_stream(random: Random) -> bytes:
    """Return a stream: made opcode by opcode, or an honest one, and bent in two of five cases."""
    stream = random.choice(HONEST) if random.random() < 0.1 else Maker(random).make()
    return bend(random, stream) if random.random() < 0.4 else stream


def bend(random: Random, stream: bytes) -> bytes:
    """Change, drop or repeat a few bytes."""
    bent = bytearray(stream)
    for _ in range(random.randint(1, 3)):
        at = random.randrange(len(bent) + 1)
        match random.randrange(5):
            case 0 if at < len(bent):
                bent[at] = random.randrange(256)
            case 1 if at < len(bent):
                bent[at] ^= 1 << random.randrange(8)
            case 2:
                del bent[at : at + random.randint(1, 6)]
            case 3:
                bent[at:at] = bytes(
                    random.choice(b"(0RtNQ)}]a\x85\x93\x94\x81bo.2") for _ in range(random.randint(1, 3))
                )
            case _:
                bent[at:at] = bent[at : at + random.randint(1, 12)]
    return bytes(bent)


class Maker:
    """Makes one stream; follows the height of the stack and the entries of the memo."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.out = bytearray()
        self.height = 0
        self.marks: list[int] = []
        self.memo: list[int] = []

    def make(self) -> bytes:
        if self.random.random() < 0.7:
            self.out += b"\x80" + bytes((self.random.choice((0, 1, 2, 3, 4, 4, 5, 5)),))
        for _ in range(self.random.randint(1, 40)):
            self.step()
        if self.random.random() < 0.9:
            if not self.height:
                self.out += b"N"
            self.out += b"."
        return bytes(self.out)

    def step(self) -> None:
        """Add an opcode that the stack allows, and sometimes one that it does not."""
        above = self.height - (self.marks[-1] if self.marks else 0)
        steps: list[Callable[[], None]] = [
            self.constant,
            self.constant,
            self.named,
            self.named,
            self.fetch,
            self.simple,
        ]
        if above:
            steps += [self.remember, self.remember, self.remember, self.drop]
        if self.memo:
            steps += [self.recall, self.recall, self.recall]
        if self.marks:
            steps += [self.group, self.group]
        if above > 1:
            steps += [self.combine, self.combine]
        if self.random.random() < 0.02:
            steps = [self.group, self.combine, self.recall, self.remember]
        self.random.choice(steps)()

    def add(self, opcode: bytes, pops: int = 0, pushes: int = 1) -> None:
        self.out += opcode
        self.height = max(0, self.height - pops) + pushes

    def digits(self, number: int) -> bytes:
        """Spell a number as a line, in one of the ways that ``int`` or C reads."""
        text = "0" * self.random.choice((0, 0, 0, 1, 39, 60, 5000 if self.random.random() < 0.05 else 2)) + str(number)
        if self.random.random() < 0.1:
            text = self.random.choice(("+", "-", "_", "0x", "0o", "1_")) + text
        return (self.random.choice(("", "", "", " ", "\t")) + text + self.random.choice(SPACES)).encode() + b"\n"

    def constant(self) -> None:  # noqa: C901 - a table of ways
        random = self.random
        match random.randrange(14):
            case 0:
                self.add(b"I" + self.digits(random.choice((0, 1, 7, 8, 10, 2**31, 2**70))))
            case 1:
                self.add(b"L" + self.digits(random.randrange(99))[:-1] + random.choice((b"L\n", b"\n", b"LL\n")))
            case 2:
                tail = random.choice(("", "e-5", "." + "0" * 70, "e", "_0", "inf", "\0zz"))
                self.add(b"F1" + b"0" * random.choice((0, 0, 57, 90)) + tail.encode() + b"\n")
            case 3:
                self.add(b"G" + struct.pack(">d", 1.5))
            case 4:
                self.add(random.choice((b"K\x05", b"M\x05\x01", b"J\xff\xff\xff\xff", b"\x8a\x01\x05", b"\x8a\x00")))
            case 5:
                size = random.choice((0, 3, 61, 300))
                self.add(b"\x8b" + struct.pack("<I", size) + bytes(size))
            case 6:
                raw = bytes(random.randrange(256) for _ in range(random.randrange(6)))
                head = random.choice(
                    (b"C%c", b"B%c\0\0\0", b"\x8e%c" + bytes(7), b"\x96%c" + bytes(7), b"U%c", b"T%c\0\0\0")
                )
                self.add(head.replace(b"%c", bytes((len(raw),))) + raw)
            case 7:
                self.text("x" * random.choice((0, 9, 600, 70_000 if random.random() < 0.05 else 513)))
            case 8:
                self.text(random.choice(("\u00e9", "\ud800", "a\nb", "\\", "'", '"', "\\u0041")))
            case 9:
                self.add(b"S" + random.choice((b"'a\\x41\\q'", b'"b"', b"'c", b"d'", b"''", b"'e' ", b" 'f'")) + b"\n")
            case 10:
                self.add(random.choice((b"N", b"\x88", b"\x89", b")", b"]", b"}", b"\x8f")))
            case 11:
                self.add(b"P" + random.choice((b"id\n", b"\n", b"\xff\n")))
            case 12 if random.random() < 0.2:
                self.add(random.choice((b"\x82\x01", b"\x83\x01\x00", b"\x97")))
            case _:
                self.add(random.choice((b"]", b"}", b")", b"N")))

    def text(self, value: str) -> None:
        """Push a text by one of the opcodes for texts."""
        random, raw = self.random, value.encode("utf-8", "surrogatepass")
        match random.randrange(8):
            case 0 if len(raw) < 256:
                self.add(b"\x8c" + bytes((len(raw),)) + raw)
            case 1:
                self.add(b"\x8d" + struct.pack("<Q", len(raw)) + raw)
            case 2 if "\n" not in value:
                escaped = "".join(f"\\u{ord(char):04x}" if random.random() < 0.3 else char for char in value)
                self.add(b"V" + escaped.encode("latin-1", "backslashreplace") + b"\n")
            case 3:
                self.add(b"S" + ascii(value).encode() + b"\n")
            case 4 if len(raw) < 256:
                self.add(b"U" + bytes((len(raw),)) + raw)
            case 5:
                self.add(b"T" + struct.pack("<I", len(raw)) + raw)
            case _:
                self.add(b"X" + struct.pack("<I", len(raw)) + raw)

    def named(self) -> None:
        """Fetch a global, or push the texts that name one."""
        random = self.random
        module, name = random.choice(NAMES)
        lines = f"{module}\n{name}\n".encode()
        match random.randrange(6):
            case 0:
                self.add(b"c" + lines)
            case 1 if self.marks:
                self.add(b"i" + lines, self.height - self.marks.pop())
            case 2:
                self.text(module)
                self.remember()
                self.text(name)
                self.remember()
            case _:
                self.text(module)
                if random.random() < 0.3:
                    self.remember()
                self.text(name)
                if random.random() < 0.3:
                    self.remember()
                self.add(b"\x93", 2)

    def fetch(self) -> None:
        """Set a mark, or rarely begin a frame."""
        if self.random.random() < 0.95:
            self.add(b"(", 0, 0)
            self.marks.append(self.height)
        else:
            self.out += b"\x95" + struct.pack("<Q", self.random.choice((0, 1, 5, 40)))

    def simple(self) -> None:
        self.add(self.random.choice((b"}", b"]", b")", b"N")))

    def drop(self) -> None:
        random = self.random
        if random.random() < 0.4:
            self.add(b"2")
        else:
            self.add(b"0", 1, 0)

    def remember(self) -> None:
        random = self.random
        at = random.choice((0, 1, 7, 8, 19, 29, 255, 256, 3000))
        form = random.randrange(5)
        if form == 0:
            self.out += b"p" + self.digits(at)
        elif form == 1:
            self.out += b"q" + bytes((at & 255,))
            at &= 255
        elif form == 2:
            self.out += b"r" + struct.pack("<I", at)
        else:
            self.out += b"\x94"
            at = len(set(self.memo))
        self.memo.append(at)

    def recall(self) -> None:
        at = self.random.choice(self.memo or [0])
        form = self.random.randrange(3)
        if form == 0 and at < 256:
            self.add(b"h" + bytes((at,)))
        elif form == 1:
            self.add(b"j" + struct.pack("<I", at))
        else:
            self.add(b"g" + self.digits(at))

    def group(self) -> None:
        """Use up a mark."""
        start = self.marks.pop() if self.marks else 0
        opcode = self.random.choice((b"t", b"t", b"l", b"d", b"\x91", b"1", b"e", b"u", b"\x90", b"o"))
        self.add(opcode, max(0, self.height - start), 0 if opcode in (b"1", b"e", b"u", b"\x90") else 1)

    def combine(self) -> None:
        """Use up the top of the stack."""
        opcode, pops = self.random.choice(
            (
                (b"R", 2), (b"R", 2), (b"\x81", 2), (b"\x92", 3), (b"b", 2), (b"a", 2), (b"s", 3), (b"\x85", 1),
                (b"\x85", 1), (b"\x86", 2), (b"\x87", 3), (b"\x93", 2), (b"Q", 1), (b"\x98", 1), (b"\x85R", 2),
            )
        )  # fmt: skip
        self.add(opcode, pops)
