"""Output for people and programs: live view, plain lines, tables, the JSON report."""
