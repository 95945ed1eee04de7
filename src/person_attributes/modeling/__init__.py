"""The network: backbones and the classifier on top of them."""
