"""The stream's side of the features: the vectorised engine and the storey steps that carry it."""
