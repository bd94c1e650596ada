"""Several runs as one result: repeats, folds, and whether two sets differ."""
