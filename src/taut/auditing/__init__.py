"""From a log to a certificate."""
