"""What a log's rows are worth: draws, labels, units, health."""
