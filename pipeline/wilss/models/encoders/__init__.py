"""Frozen foundation models: CLIP's dense image and text features, and a vision transformer's last attention.

Importing this package imports no torch; `clip` and `dino` do, when they are imported.
"""
