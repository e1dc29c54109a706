"""The arithmetic of running the river; pure, so that it can be right."""
