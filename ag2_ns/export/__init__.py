"""Pieces out: splats, anchors, boxes and hulls, in the run's frame or the original world's."""
