"""Anchors and children, growth and pruning, losses and the nerfstudio model."""
