"""The folders of the panel: each its elements, and what they do with the session."""
