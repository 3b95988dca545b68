"""What holds for every test."""

from hypothesis import HealthCheck, settings

# No test is timed: a machine may be slow or busy.
settings.register_profile("mira", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mira")
