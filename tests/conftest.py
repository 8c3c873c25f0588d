"""What holds for all tests: one thread in every process, since several processes share the cores."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in all that tests start
