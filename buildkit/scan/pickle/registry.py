"""The pickle formats."""

from __future__ import annotations

from buildkit.scan.context import Format
from buildkit.scan.pickle import numpy, streams

FORMATS = (Format("pickle", streams.recognise, streams.scan), Format("NumPy array", numpy.recognise, numpy.scan))
