"""Settings of every test: properties are given the time they take, and say how to repeat a failure.

They try the same examples each time, so that the same code passes or fails; with BUILDKIT_TEST_EXPLORE other ones.
"""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile(
    "ours",
    deadline=None,
    print_blob=True,
    derandomize="BUILDKIT_TEST_EXPLORE" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ours")

# a shell that starts the suite in the background has it, and all that it starts, ignore Ctrl-C
signal.signal(signal.SIGINT, signal.default_int_handler)
