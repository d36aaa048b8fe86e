"""Whether runs are what they say, and whether their models can be compared."""
