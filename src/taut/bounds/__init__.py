"""The three terms."""
