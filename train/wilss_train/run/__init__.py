"""One training run: the loop, its processes, saved states and log."""
