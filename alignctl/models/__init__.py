"""Trained models, wherever they come from: what they are called, and how their weights are read."""
