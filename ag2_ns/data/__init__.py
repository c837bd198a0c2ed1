"""Scenes, masks, features and what feeds them to training."""
