"""Selections and the queries that make them: click, ray, box, text."""
