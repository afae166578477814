"""Write, read, compress and compare deterministic tars."""
