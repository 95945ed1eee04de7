"""One module or package for each command that is no stage, of the same name."""
