"""What looks after the cache: listing, clearing away, verifying."""
