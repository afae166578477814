"""Limits the arenas of glibc's allocator (mallopt(3)): it makes one for nearly every thread, and each keeps what
buffers of a mebibyte left behind. A build has a dozen threads, which share the interpreter lock anyway."""

from __future__ import annotations

_M_ARENA_MAX = -8  # malloc.h
_ARENAS = 2


def limit_arenas() -> None:
    """Let threads that start from now on share two arenas; does nothing with another C library.

    An arena that a thread has made already is used again, so this belongs before the first thread.
    """
    import ctypes  # a build with nothing to do does not come here

    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, _ARENAS)
