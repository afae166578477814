"""Stage files, settings and the graph of stages: pure functions from text to values."""
