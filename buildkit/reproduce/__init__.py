"""Build a stage twice under different conditions and compare the layers."""
