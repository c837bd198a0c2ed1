"""Generators of example scenes with exact ground truth."""
