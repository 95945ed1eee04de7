"""Other servers of the same network, with the same decoder and resize."""
