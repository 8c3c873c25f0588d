"""CLIPs: what is in an image, as dense features in the space of their text."""
