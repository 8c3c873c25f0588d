"""What came of a run: evaluation, predictions, report."""
