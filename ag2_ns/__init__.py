"""Anchor-graph Gaussian splatting for instance-level 3D scene understanding, as a nerfstudio method."""

__version__ = "0.1.0"
