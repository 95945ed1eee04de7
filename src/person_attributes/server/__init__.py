"""The server of `person-attributes serve`: an ASGI application around the served model."""
