"""Gives an MP3 file a true length.

MP3 has no length of its own, only an "Info" (or "Xing") frame that an encoder may put first. Without one libsndfile
guesses from the bit rate of the first frame, and *stops* there: of a file with a variable bit rate it may silently
decode a third. Two files put together have an Info frame that knows of the first one only. So the frames are counted
here (a walk from header to header), and where the file does not say so itself, an Info frame of our own is put first.

Layout of frames: ISO/IEC 11172-3, 2.4.1.3 and 13818-3; of the Info frame: what LAME and mpg123 agree on.
"""

from __future__ import annotations

import functools
import io
import re
from dataclasses import dataclass

from problems import MOST_PARTS, too_odd

KILOBITS = {  # layer III, by the version's two bits; index 0 (free) and 15 are not taken
    3: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
RATES = {3: (44_100, 48_000, 32_000, 0), 2: (22_050, 24_000, 16_000, 0), 0: (11_025, 12_000, 8_000, 0)}
SYNC = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)  # layer III of the three versions
INFO = (b"Xing", b"Info")
HAS_FRAMES = 1
INFO_BITRATE = 14  # the highest: at every rate its frame has room for the Info tag
RESYNC = 4096  # bytes of padding or junk between frames that are looked through
MOST_JUNK = 1 << 20  # bytes of that in all


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """What a walk found: the header of the first audio frame, where it is, how many there are, and what is claimed."""

    header: bytes
    start: int
    frames: int
    claimed: int | None


@functools.cache
def measure_frame(second: int, third: int) -> int:
    """Return the length in bytes of a layer III frame by the second and third byte of its header; 0 for no header."""
    version, layer = second >> 3 & 3, second >> 1 & 3
    if second & 0xE0 != 0xE0 or version == 1 or layer != 1:
        return 0
    rate = RATES[version][third >> 2 & 3]
    kilobits = KILOBITS[3 if version == 3 else 2][third >> 4]
    if not rate or not kilobits:
        return 0
    return (144 if version == 3 else 72) * kilobits * 1000 // rate + (third >> 1 & 1)


def find_track(view: memoryview) -> Track | None:
    """Walk an MP3 file; None where no two frames follow each other.

    Raises:
        Problem: it has more than `MOST_PARTS` tags, or more than `MOST_JUNK` bytes of junk between frames.
    """
    at = find_frame(view, skip_tags(view))
    if at is None:
        return None
    head = bytes(view[at : at + 4])
    claimed = find_claim(view[at : at + 200])
    if claimed is not None:
        at += measure_frame(head[1], head[2])
    return Track(header=head, start=at, frames=count_frames(view, at), claimed=claimed)


def skip_tags(view: memoryview) -> int:
    """Return where the ID3v2 tags at the beginning end (id3.org, ID3v2.4, 3.1)."""
    at = 0
    for _ in range(MOST_PARTS):
        if bytes(view[at : at + 3]) != b"ID3" or len(view) < at + 10:
            return at
        size = 0
        for byte in view[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        footer = 10 if view[at + 5] & 0x10 else 0
        at += 10 + size + footer
    raise too_odd("many tags before its samples")


def find_frame(view: memoryview, start: int) -> int | None:
    """Return where the first frame at or after `start` begins: a header that another one, or the end, follows."""
    for match in SYNC.finditer(view, start, min(len(view), start + RESYNC)):
        at = match.start()
        if at + 4 > len(view):
            return None
        length = measure_frame(view[at + 1], view[at + 2])
        after = at + length
        if length and (after == len(view) or SYNC.match(view, after)):
            return at
    return None


def count_frames(view: memoryview, at: int) -> int:
    """Return how many whole frames there are from `at` on, also behind a short stretch of junk."""
    count, size, junk = 0, len(view), 0
    while at + 4 <= size:
        length = measure_frame(view[at + 1], view[at + 2]) if view[at] == 0xFF else 0
        if length:
            at += length
            count += at <= size
            continue
        found = find_frame(view, at)
        if found is None:
            break
        junk += found - at
        if junk > MOST_JUNK:
            raise too_odd("much junk between its frames")
        at = found
    return count


def find_claim(frame: memoryview) -> int | None:
    """Return how many frames an Info frame claims to follow (0 where it does not say); None for an audio frame."""
    if bytes(frame[36:40]) == b"VBRI":  # Fraunhofer's own; read by its count of bytes alone elsewhere
        return 0
    at = 4 + measure_side(bytes(frame[:4]))
    if bytes(frame[at : at + 4]) not in INFO:
        return None
    flags = int.from_bytes(frame[at + 4 : at + 8])
    return int.from_bytes(frame[at + 8 : at + 12]) if flags & HAS_FRAMES else 0


def measure_side(header: bytes) -> int:
    """Return the length of a frame's side information, behind which the Info tag lies."""
    mono = header[3] >> 6 == 3
    if header[1] >> 3 & 3 == 3:
        return 17 if mono else 32
    return 9 if mono else 17


def make_info(header: bytes, frames: int) -> bytes:
    """Return an Info frame, silent itself, that says that `frames` frames like `header` follow."""
    first = bytes((header[0], header[1] | 1, INFO_BITRATE << 4 | header[2] & 0x0C, header[3]))  # no CRC, no padding
    tag = b"Xing" + HAS_FRAMES.to_bytes(4) + frames.to_bytes(4)
    return (first + bytes(measure_side(first)) + tag).ljust(measure_frame(first[1], first[2]), b"\0")


def give_length(file: io.BytesIO) -> io.BytesIO | Prefixed:
    """Return `file`, or a view of it that begins with a true Info frame where its own is missing or falls short."""
    with file.getbuffer() as view:
        track = find_track(view)
    if track is None or (track.claimed or 0) >= track.frames:
        return file
    return Prefixed(make_info(track.header, track.frames), file, track.start)


class Prefixed(io.RawIOBase):
    """A readable file: some bytes, then another file from an offset on. Nothing is copied."""

    def __init__(self, prefix: bytes, file: io.BytesIO, start: int) -> None:
        super().__init__()
        self._prefix = prefix
        self._file = file
        self._shift = start - len(prefix)
        self._size = file.seek(0, io.SEEK_END) - self._shift
        self._at = 0

    def readable(self) -> bool:
        """Say yes."""
        return True

    def seekable(self) -> bool:
        """Say yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move, and return the new position."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill `buffer` and return how many bytes there were."""
        wanted = len(buffer)
        head = self._prefix[self._at : self._at + wanted]
        buffer[: len(head)] = head
        self._file.seek(max(self._at, len(self._prefix)) + self._shift)
        tail = self._file.read(wanted - len(head))
        buffer[len(head) : len(head) + len(tail)] = tail
        self._at += len(head) + len(tail)
        return len(head) + len(tail)
