"""All that knows nerfstudio."""
