"""Clients of others, each run in an environment of its own: nothing here is for pytest to import."""

collect_ignore_glob = ["*.py"]
