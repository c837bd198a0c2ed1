"""Measures of selections against ground truth."""
