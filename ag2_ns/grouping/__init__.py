"""From masks and Gaussians to a tree of instances."""
