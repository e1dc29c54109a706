"""Each peer imports its own framework, which stands in an environment of its own: nothing here is for pytest to import."""

collect_ignore_glob = ["*.py"]
