"""Supports: a few images of a class, annotated by masks, boxes or scribbles; every kind becomes one map."""
