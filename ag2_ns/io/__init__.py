"""Files: splats, masks, features, selections, scenes."""
