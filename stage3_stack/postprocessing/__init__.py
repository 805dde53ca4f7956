"""From maps and probabilities to final masks: thresholds, their search, the submission."""
