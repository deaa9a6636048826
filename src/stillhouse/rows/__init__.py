"""Rows and conversations: reading them, shaping tables, looking at them, writing them out."""
