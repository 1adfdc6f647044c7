"""Where to clip the KL."""
