"""From pictures to Gaussians in one pass."""
