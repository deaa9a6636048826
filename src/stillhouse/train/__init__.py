"""Training: one loop; objectives, losses, optimisers and schedules are parts of it."""
