"""Blobs, the ledger and the stat index."""
