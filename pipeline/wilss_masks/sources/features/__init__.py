"""Features that a store keeps: fitted and written beside the masks, and masks made of them without an image pass."""
