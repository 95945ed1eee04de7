"""Training of one phase: compile, fit, stop, keep the best weights."""
