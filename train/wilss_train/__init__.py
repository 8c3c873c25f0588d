"""The second verb: a mask store in, a checkpoint and a report out."""
