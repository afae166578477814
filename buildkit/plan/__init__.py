"""Recipes, keys and the plan: pure, given a view of the ledger."""
