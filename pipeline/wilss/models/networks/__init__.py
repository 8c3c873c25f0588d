"""Shapes of networks whose weights come from a checkpoint. The only part of wilss that may use timm."""
