"""Frozen foundation models, networks whose weights come from a checkpoint, and reading weights safely."""
