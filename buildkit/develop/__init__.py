"""The development loop: watch files, and bring what changed into running containers."""
