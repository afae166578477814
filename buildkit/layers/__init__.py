"""Wheels, models, files and roots to deterministic layer tars."""
