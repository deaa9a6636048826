"""Whole pipelines as plain functions that return steps."""
