"""Run tasks concurrently and measure what they cost."""
