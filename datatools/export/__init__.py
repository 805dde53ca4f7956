"""Export the prepared data in layouts that published systems and other libraries read: python -m datatools.export."""
