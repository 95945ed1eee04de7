"""One phase of training: compile, fit, stop, keep the best weights."""
