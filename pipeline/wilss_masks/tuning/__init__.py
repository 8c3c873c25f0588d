"""Choosing how maps become masks: the networks once over a sample, then a search that needs them no more."""
