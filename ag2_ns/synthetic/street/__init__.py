"""A street to learn driving scenes on: six cameras, LiDAR, depth, simulated features and exact voxels."""

from ag2_ns.synthetic.street.generate import generate

__all__ = ["generate"]
