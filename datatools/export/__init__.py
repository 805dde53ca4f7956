"""The prepared data in the layouts that published systems and other libraries read: python -m datatools.export."""
