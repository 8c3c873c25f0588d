"""Making a mask store: plan, workers, commits, resuming and updating."""
