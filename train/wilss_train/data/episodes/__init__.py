"""Episodes: a query image, and a few annotated images of the classes to be found in it."""
