"""Stage files, locks and the graph: text to values, pure given text."""
