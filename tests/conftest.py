"""Settings of every test: properties are given the time they take, and say how to repeat a failure."""

from hypothesis import HealthCheck, settings

settings.register_profile("ours", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")
