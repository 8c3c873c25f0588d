"""Looking into a finished store: evaluation, contact sheets, fusing kept scores again, exports."""
