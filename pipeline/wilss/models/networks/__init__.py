"""Shapes of networks whose weights come from a checkpoint. timm is imported late."""
