"""Two-stage RLHF with a clipped KL, on TRL, and its log (extra `train`)."""
