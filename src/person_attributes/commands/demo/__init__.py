"""A page on which a registered model is tried on a photograph; on this machine alone."""
