"""From the archive to a model that can be trusted: training sets, training, the signed artifact, promotion."""
