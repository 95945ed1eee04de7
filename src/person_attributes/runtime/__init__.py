"""How the program runs here; nothing in this package changes a result."""
