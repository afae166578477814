"""The pickle formats."""

from __future__ import annotations

from buildkit.scan.context import Format
from buildkit.scan.pickle import numpy, streams

FORMATS = (
    Format("pickle", streams.recognise, streams.scan, is_guess=True, is_followed=True),
    Format("NumPy array", numpy.recognise, numpy.scan, is_followed=True),
)
