"""The code of the first study, understanding-ssl-v2: its configs, its snapshots, runs of them.

`translation.py` is a dialect of configs and `adopted_run.py` a source of models; nothing outside
this package knows more of that code than that they exist. What plans need imports no torch.
"""
