"""Many radiographs: a user's data folder, its tables and boxes, and the prepared arrays made of them."""
