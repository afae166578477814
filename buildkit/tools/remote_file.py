"""Files on servers of which only some bytes are fetched, by range requests."""

from __future__ import annotations

import io

from buildkit.tools.http import HttpSession

_BLOCK = 64 << 10


class TooMuchError(Exception):
    """More bytes are needed than are worth fetching."""


class RemoteFile(io.RawIOBase):
    """A file of ``size`` bytes at ``url``, of which each block is fetched when it is first read; ``most`` bytes in all.

    A server without ranges sends the whole file, which is taken if it has ``whole`` bytes at most. Reading raises
    TransientFailure, FetchError, or TooMuchError.
    """

    def __init__(self, session: HttpSession, url: str, size: int, *, most: int, whole: int | None = None) -> None:
        self._session = session
        self._url = url
        self._size = size
        self._most = most
        self._whole = most if whole is None else whole
        self._blocks: dict[int, bytes] = {}
        self._at = 0

    def readable(self) -> bool:
        """Say that it is, as file objects do."""
        return True

    def seekable(self) -> bool:
        """Say that it is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset, and return it."""
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # of any writable buffer
        """Read from the present offset on, and return how many bytes."""
        data = self.read_at(self._at, len(buffer))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def read_at(self, offset: int, count: int) -> bytes:
        """Return ``count`` bytes from ``offset`` on, fewer at the end of the file."""
        end = min(offset + count, self._size)
        if offset >= end:
            return b""
        first, last = offset // _BLOCK, (end - 1) // _BLOCK
        missing = [number for number in range(first, last + 1) if number not in self._blocks]
        if missing:
            self._fetch(missing[0], missing[-1])
        data = b"".join(self._blocks[number] for number in range(first, last + 1))
        return data[offset - first * _BLOCK : end - first * _BLOCK]

    def _fetch(self, first: int, last: int) -> None:
        """Fetch blocks, with one more where reading goes: the one before, or twice what came before them."""
        behind = 0
        while first - behind - 1 in self._blocks:
            behind += 1
        if behind:
            last = min(last + behind, (self._size - 1) // _BLOCK)
        else:
            first = max(first - 1, 0)
        start, end = first * _BLOCK, min((last + 1) * _BLOCK, self._size)
        if (len(self._blocks) + last - first) * _BLOCK > self._most:
            raise TooMuchError
        with self._session.open(self._url, start=start, end=end) as response:
            if response.status_code == 200 and self._size <= self._whole:
                start, end = 0, self._size
            elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                raise TooMuchError
            data = bytearray()
            for part in self._session.iter_body(self._url, response):
                data += part
                if len(data) > end - start:
                    raise TooMuchError
        data += bytes(end - start - len(data))  # a server that sends less has another file
        for offset in range(0, len(data), _BLOCK):
            self._blocks[(start + offset) // _BLOCK] = bytes(data[offset : offset + _BLOCK])
