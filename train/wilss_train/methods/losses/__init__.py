"""How a network learns from a mask: pure functions on tensors, a file per paper, in the paper's order."""
