"""Scan wheels: code that runs unasked, models that run code when they are loaded, and programs in disguise."""
