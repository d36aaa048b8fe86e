"""Starts torch.distributed processes, listens to them, and knows nothing of what they run."""
