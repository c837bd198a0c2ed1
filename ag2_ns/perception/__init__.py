"""Segmenters (image to masks) and encoders (masks and text to vectors); heavy libraries are imported when used."""
