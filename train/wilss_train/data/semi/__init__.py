"""Few labelled images beside many unlabelled ones: the list, the two views of an image, and the batches of both."""
