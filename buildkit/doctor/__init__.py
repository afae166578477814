"""Is this host fit for building? Facts are gathered, checks turn them into findings, findings are rendered."""
