"""Look after the local cache: list, explain, verify, and collect garbage."""
