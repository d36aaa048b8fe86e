"""What is asked of spaces of features and of weights: rows of tables."""
