"""Candidates compared on what they share: common threshold, paired draws, both differences."""
