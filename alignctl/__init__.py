"""alignctl: how alike do networks become when only the training objective differs?"""

__version__ = "0.1.0"
