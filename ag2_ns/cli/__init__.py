"""The ag2 command."""
