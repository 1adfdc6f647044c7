"""Theorems: numbers in, numbers out."""
