"""Predictions, comparisons on held-out rows, and how new those rows are."""
