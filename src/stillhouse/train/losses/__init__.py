"""Losses: pure functions of logits, targets and weights that return a sum and its denominator."""
