"""Errors, intervals and p-values of scores."""
