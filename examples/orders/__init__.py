"""A coffee bar's till: what a guest says becomes the order as JSON (the task sheet is `README.md`)."""
