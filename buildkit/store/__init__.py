"""The local cache: blobs, the ledger, and the stat index."""
