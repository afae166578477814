"""Formats read by our own bounded parsers: tensors, graphs, configurations, text, programs, plain data."""
