"""Steps that choose rows: duplicates, verification, contamination, splits that keep like with like."""
