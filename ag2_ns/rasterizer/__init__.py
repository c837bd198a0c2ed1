"""Rasteriser backends behind one protocol."""
