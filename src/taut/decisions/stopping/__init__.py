"""When enough has been sampled."""
