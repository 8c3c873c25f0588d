"""Vision transformers of timm's: where things are, by the queries and keys of the last block."""
