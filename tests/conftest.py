"""What holds for all tests: one thread in every process, since several processes share the cores."""

from hypothesis import HealthCheck, settings

from tests.quick import freeze

# A busy machine makes examples slow, and is no fault of what they are examples of.
settings.register_profile("wilss", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wilss")


def pytest_collection_finish() -> None:
    """What was imported to collect the tests stays."""
    freeze()
