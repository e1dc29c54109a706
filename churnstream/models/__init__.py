"""From the archive to a model, and from a model to a score."""
