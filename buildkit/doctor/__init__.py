"""Diagnose the host: gather facts, check them, and render the findings."""
