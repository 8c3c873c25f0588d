"""One module per command: it parses and calls, and imports what is heavy when it runs."""
