"""Imported last by the drills' server of processes: its processes share what it has in memory."""

import timm  # noqa: F401  # by every training

from tests.quick import freeze

freeze()
