"""Tables: the last value of a key, as bytes; one adapter a module, one contract for all."""
