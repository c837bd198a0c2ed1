"""The table-top example scene: ray-traced objects with exact ground truth and simulated masks, features and points."""

from ag2_ns.synthetic.tabletop.generate import generate

__all__ = ["generate"]
