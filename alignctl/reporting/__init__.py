"""Tables to figures to markdown. Computes no science: every number comes from a table."""
