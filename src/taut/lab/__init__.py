"""Experiments whose truth is known: what learned rewards do to policies, and what an audit sees."""
