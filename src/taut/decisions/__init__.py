"""Decisions made with certificates: each states what it may claim after looking at the data."""
