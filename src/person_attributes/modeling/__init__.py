"""The network: backbones, necks and the classifier."""
