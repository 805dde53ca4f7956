"""Scores of the final masks and probabilities, and the closing table."""
