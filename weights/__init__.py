"""Start weights that the project ships, and how they were made."""
