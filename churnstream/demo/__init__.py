"""The demonstration: the numbered notebooks in order, what came of them in figures, and a page to look at."""
