"""Anchors and their children: growth, losses, optimisers, checkpoints."""
