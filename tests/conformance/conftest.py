"""How random graphs are drawn: the same ones every time, or ever new ones with `--hypothesis-profile=fuzz`."""

from hypothesis import HealthCheck, settings

# One example draws many nodes and runs each as it comes.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]

settings.register_profile("graphs", max_examples=150, derandomize=True, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("fuzz", settings.get_profile("graphs"), max_examples=3000, derandomize=False)
