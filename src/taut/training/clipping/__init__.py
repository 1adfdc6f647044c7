"""The KL penalty clipped at the level of the sequence, and where its threshold comes from."""
