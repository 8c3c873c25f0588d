"""Masks and corrections to and from other tools: a writer for each form, and one reader of them all."""

from .reading import Reading, read

__all__ = ["Reading", "read"]
