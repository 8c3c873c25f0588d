"""Networks of transformers that propose masks: regions of no class (SAM 2, EoMT, SAM 3), what a word names (SAM 3)."""
