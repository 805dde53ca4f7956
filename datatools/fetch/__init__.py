"""Fetch the data from Kaggle, a URL, a zip or a folder into data/."""
