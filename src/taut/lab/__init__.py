"""Experiments at desk size whose truth is known (extra `train`)."""
