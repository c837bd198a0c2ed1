"""Edits on a Selection."""
