"""Pictures of the project, drawn from what the code knows: SVG on a light panel of its own, so that a dark page takes it too."""
