"""Referring expressions: a sentence is parsed into a program over the scene's things, and the program is solved."""
