"""What batches are made of: crops, colours, groups of views."""
