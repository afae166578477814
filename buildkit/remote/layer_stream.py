"""Upload a layer while its blob is written, so that the registry has its bytes when it is complete.

The registry names the blob once the layer is kept. A layer that fails or is refused is none there: its upload is
cancelled. A stream that fails is left to the upload of the complete blob, which asks for it before it sends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from buildkit.digest import Digest, Key
from buildkit.errors import BuildkitError
from buildkit.tools.growing_blob import GrowingBlob

MIN_STREAM_BYTES = 4 << 20
"""Size from which a blob is streamed. One that stays smaller costs nothing: it goes up when it is complete."""


class _Abandoned(Exception):
    """The layer is not kept."""


class LayerStream:
    """The file of one blob, which `BlobStream` writes to; ``send`` uploads it meanwhile, in a thread."""

    def __init__(self, out: BinaryIO, send: Callable[[GrowingBlob], bool]) -> None:
        self._out = out
        self._send = send
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._written = 0
        self._digest: Digest | None = None
        self._abandoned = False
        self._is_there = False
        self.sent = 0

    def write(self, data: bytes, /) -> None:
        """Take the next bytes of the blob."""
        self._out.write(data)
        self._out.flush()
        with self._changed:
            self._written += len(data)
            self._changed.notify()
        if self._thread is None and self._written >= MIN_STREAM_BYTES:
            file = Path(self._out.name).open("rb", buffering=0)  # noqa: SIM115 - the thread closes it
            self._thread = threading.Thread(target=self._run, args=(file,), name="stream", daemon=True)
            self._thread.start()

    @property
    def is_underway(self) -> bool:
        """Whether bytes have gone up, or may go up any moment."""
        return self._thread is not None and (self._thread.is_alive() or self.sent > 0)

    def accept(self, digest: Digest) -> None:
        """Let the registry name the blob: it is complete, and its layer is kept."""
        with self._changed:
            self._digest = digest
            self._changed.notify()

    def abandon(self) -> None:
        """End the upload without a blob, if it has not ended."""
        with self._changed:
            self._abandoned = True
            self._changed.notify()

    def finish(self) -> bool:
        """Wait for the end of the upload; return whether the registry has the blob."""
        if self._thread is not None:
            self._thread.join()
        return self._is_there

    def _run(self, file: BinaryIO) -> None:
        # what fails here is done again with the complete blob, and reported then
        with file, suppress(_Abandoned, BuildkitError):
            self._is_there = self._send(GrowingBlob(file=file.fileno(), wait=self._wait, digest=self._settle))

    def _wait(self, sent: int) -> int:
        self.sent = sent
        with self._changed:
            self._changed.wait_for(lambda: self._written > sent or self._digest or self._abandoned)
            return sent if self._abandoned else self._written

    def _settle(self) -> Digest:
        if self._abandoned or self._digest is None:
            raise _Abandoned
        return self._digest


class LayerStreams:
    """The streams of one build; ``send`` uploads a blob, or returns False for a layer that is not streamed.

    Without it there are none. Once one has failed, no other begins. At the end of the block those that have not ended
    are abandoned.
    """

    def __init__(self, send: Callable[[Key, GrowingBlob], bool] | None) -> None:
        self._send = send
        self._streams: dict[Key, LayerStream] = {}
        self._failed = False

    @property
    def are_open(self) -> bool:
        """Whether layers may be streamed, by threads of this process."""
        return self._send is not None

    @contextmanager
    def open(self, key: Key, out: BinaryIO) -> Iterator[LayerStream | None]:
        """Yield what streams a layer whose blob is written to ``out``, if it may be; a failure abandons it."""
        if self._send is None or self._failed:
            yield None
            return
        stream = self._streams[key] = LayerStream(out, partial(self._attempt, key))
        try:
            yield stream
        except BaseException:
            stream.abandon()
            raise

    def has(self, key: Key) -> bool:
        """Return whether a layer is being streamed, or was, wholly or in part."""
        return key in self._streams and self._streams[key].is_underway

    def finish(self, key: Key) -> bool:
        """Wait for the end of a layer's stream; return whether the registry has the blob by it."""
        return key in self._streams and self._streams[key].finish()

    @property
    def vain(self) -> int:
        """The bytes that went up and became no blob."""
        return sum(stream.sent for stream in self._streams.values() if not stream.finish())

    def _attempt(self, key: Key, blob: GrowingBlob) -> bool:
        assert self._send is not None  # noqa: S101 - `open` has looked
        try:
            return self._send(key, blob)
        except BuildkitError:
            self._failed = True
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in self._streams.values():
            stream.abandon()
            stream.finish()
