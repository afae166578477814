"""What is shown: live view, plain lines, tables, the JSON report."""
