"""From checkpoints to features to rows of numbers."""
