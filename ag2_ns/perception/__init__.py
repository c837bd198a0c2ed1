"""Segmenters and image-text encoders, imported only when asked for."""
