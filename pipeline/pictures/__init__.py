"""A run's pictures: class balance, overlays and curves; and the record of one image that they are drawn from."""
