"""Steps that make rows by asking models."""
