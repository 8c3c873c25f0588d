"""What holds for all tests: one thread in every process, since several processes share the cores."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in all that tests start
os.environ.setdefault("WILSS_TRAIN_THREADS", "1")  # a run takes all cores else, and leaves them to the tests after it

#: What it is for, a power cut, no test can show; that it is called, test_points sees. It takes milliseconds each time.
os.fsync = lambda descriptor: None  # type: ignore[assignment]

# A busy machine makes examples slow, and is no fault of what they are examples of.
settings.register_profile("wilss", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wilss")
