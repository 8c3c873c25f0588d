"""Judging an embedding on few-shot episodes."""
