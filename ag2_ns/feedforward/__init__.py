"""From surround pictures to Gaussians in one pass, and from Gaussians to occupancy."""
