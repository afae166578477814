"""Python runs this at its start: begin to profile, then run the ``sitecustomize`` that the image has itself."""

import importlib.machinery
import importlib.util
import os
import sys

import xoe_profile  # type: ignore[import-not-found] # it lies beside this file

_HERE = os.path.dirname(os.path.abspath(__file__))

xoe_profile.begin()
_own = importlib.machinery.PathFinder.find_spec("sitecustomize", [path for path in sys.path if path != _HERE])
if _own is not None and _own.loader is not None:
    _own.loader.exec_module(importlib.util.module_from_spec(_own))
