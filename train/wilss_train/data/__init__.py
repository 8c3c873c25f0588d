"""Training data: images with their masks, augmentation, copy-paste, and the batches of every method."""
