"""Every threshold of editing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class EditConfig:
    """What goes along with a removed object, what stays, and how its support is mended.

    Chosen on table-tops of seeds below 100 (`examples/benchmarks/removal.py`) unless a source is named.
    """

    section: ClassVar[str] = "edit"

    max_views: int = 24
    """Views that votes are taken in, at most, evenly spread over the training views. (With 40 the changed pixels fit an
    object's mask no better, 0.808 for 0.806, and a removal takes half as long again.)"""
    seen: float = 0.5
    """Rendering weight (pixels, over all views) below which a Gaussian counts as never seen."""
    object_share: float = 0.5
    """A Gaussian outside of the selection goes with it if at least this share of its weight lies inside the object."""
    support_share: float = 0.35
    """A Gaussian of the selection stays if less than this share does."""
    hops: int = 2
    """Edges of the anchor graph from the selection within which its residue may belong to another instance."""
    mask_iou: float = 0.7
    """A segmenter's mask stands for the object in a view from this IoU with what the selection renders."""
    hull_depth: float = 0.1
    """Never seen Gaussians go if they lie inside the object's hull by this share of its smallest extent."""
    rounds: int = 2
    """Times the votes are taken at most, each time with what the round before added and spared."""
    revealed_share: float = 0.25
    """A Gaussian was hidden until now if it had less than this share of the weight that it has without the object,"""
    revealed_beside: float = 0.05
    """and less than this share of it beside the object."""
    plane_trials: int = 256
    """Planes tried for the support (RANSAC, Fischler and Bolles 1981)."""
    flat: float = 0.03
    """Gaussians count as on a plane within this share of the object's size."""
    plane_agrees: float = 0.3
    """Least share of the boundary's opacity that must lie on the plane for it to be the support."""
    plane_above: float = 0.8
    """Least share of the object that must be on one side of it."""
    plane_reach: float = 0.75
    """The object comes down to the plane within this share of its size: nobody sees where it touches."""
    patch_looks: int = 2
    """A place of the support was seen if at least so many views see it."""
    patch_cells: int = 80
    """Cells of the patch along the longer side of the object, at most."""
    patch_neighbours: int = 24
    """Gaussians of the support that a new one takes its colour from."""
    patch_opacity: float = 0.99
    """Of the new Gaussians."""
    shadow_reach: float = 0.6
    """How far a contact shadow reaches from the footprint, in sizes of the object; what it is compared with is the ring
    beyond, twice as wide."""
    shadow_near: float = 0.15
    """Where a shadow is darkest, in sizes of the object."""
    shadow_least: float = 0.03
    """Share of the brightness by which the support must darken towards the object, and below which nothing changes."""
    shadow_hue: float = 0.25
    """A shadow darkens all colours alike: up to this difference between their factors, as a share of their mean."""
    shadow_most: float = 4.0
    """Largest factor by which a shadow is lifted."""
