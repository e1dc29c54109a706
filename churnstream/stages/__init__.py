"""What the functions do, without where they run: one stage of the river a module."""
