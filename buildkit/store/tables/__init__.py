"""The tables of the ledger, one module each: typed rows in and out, and the only SQL outside `store.database`."""
