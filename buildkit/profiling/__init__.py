"""What a profiled service spends its time and memory on: requests that are sent, traces that are read, and a summary.

Pure, but for `load`, which sends requests, and `agent`, which a container runs.
"""
