"""Engines: sources in, rollouts out."""
