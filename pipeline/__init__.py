"""Runs the stages in order; of each stage it knows config.py and nothing else."""
