"""Commands around a dataset that no training needs: fetch, doctor, export, audit of fold files."""
