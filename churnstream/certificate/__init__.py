"""The certificate: a replay in which everything goes wrong, and the features recomputed three ways at a million points of it."""
