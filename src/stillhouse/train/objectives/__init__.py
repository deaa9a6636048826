"""Training methods: what a batch contributes to the loss."""
