"""Frozen foundation models: CLIP's dense image and text features (`clip`), and a transformer's last attention (`vit`).

Here stands what both need: weights and what they are known by, the grids of inputs, the precision of a pass. Importing
this package imports no torch.
"""
