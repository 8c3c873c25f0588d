"""How scores become a mask, and how a mask is judged: pure functions, a file per paper, in the paper's order."""
