"""What looks and tells, and builds nothing: plan, explain, graph."""
