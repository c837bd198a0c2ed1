"""Values that every room speaks of: Gaussians, views, masks, selections, errors."""
