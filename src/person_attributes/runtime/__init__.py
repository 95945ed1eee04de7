"""Devices, hosts, checkpoints and signals; nothing in this package changes a result."""
