"""Text: tokenisers, chat templates and their masks, normalisers, n-grams."""
