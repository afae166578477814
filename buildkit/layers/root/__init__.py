"""Debian roots: a normalised tar that is the same on every machine, and the packages in it."""
