"""Numerics on plain tensors and arrays."""
