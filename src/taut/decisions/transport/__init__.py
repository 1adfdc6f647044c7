"""Whether a calibrated judge still holds for another policy."""
