"""Worked tasks that ship with the project: seeds, a verifier, a teacher and a held-out test for each."""
