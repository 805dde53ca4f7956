"""Runs the stages in order; it imports nothing of a stage but its config.py."""
