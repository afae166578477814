"""Deterministic tars: written, read, compressed, compared."""
