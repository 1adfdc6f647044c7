"""Prompts, rollouts or labels for the money."""
