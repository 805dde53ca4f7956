"""A run's pictures: class balance, overlays, curves, all that is known of one image."""
