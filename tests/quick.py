"""What makes a process of the tests quicker; the first of all imports, in a test run and in the drills' server."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in all that tests start
os.environ.setdefault("WILSS_TRAIN_THREADS", "1")  # a run takes all cores else, and leaves them to the tests after it

#: What it is for, a power cut, no test can show; that it is called, test_points sees. It takes milliseconds each time.
os.fsync = lambda descriptor: None  # type: ignore[assignment]

#: Garbage is not looked for until `freeze`, and less often after it: most objects are modules and tests, which stay.
gc.disable()
gc.set_threshold(20_000, 10, 10)


def freeze() -> None:
    """Never look at what is there now: in a forked process each look would also copy the memory that it shares."""
    gc.collect()
    gc.freeze()
    gc.enable()
