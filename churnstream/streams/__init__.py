"""Streams: keyed, sharded, append-only logs of records; one adapter a module, one contract for all."""
