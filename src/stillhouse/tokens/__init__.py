"""Training data as tokens: the token store, packing, mixing and the one loader that training reads through."""
