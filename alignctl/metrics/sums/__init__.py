"""Sums over images, merged by addition."""
