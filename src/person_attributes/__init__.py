"""Trains, evaluates, registers and serves a network that predicts attributes of a person."""
