"""Sizes and rules of the feed-forward network. Published values: GaussTR (CVPR 2025; code hustvl/GaussTR)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FAR = 51.2
"""Depth is cut here, metres; what is as far or farther is taught to be transparent (GaussTR)."""


@dataclass
class NetworkConfig:
    """From features and depth of every view to Gaussians."""

    width: int = 256
    """Channels of queries and feature levels."""
    queries: int = 300
    """Gaussians per view and layer."""
    layers: int = 3
    heads: int = 8
    points: int = 4
    """Samples of a query per head and level."""
    ffn: int = 2048
    """Hidden units between attentions."""
    head_width: int = 1024
    """Hidden units of the heads."""
    dropout: float = 0.1
    """In deformable attention."""
    min_pixels: float = 7.5
    """Smallest standard deviation, in pixels of a picture 1600 wide at the Gaussian's depth."""
    max_factor: float = 16.0
    """Largest standard deviation, in smallest ones."""
    reference: Literal["fixed", "random"] = "fixed"
    """Where queries begin: a fixed set of low discrepancy, or drawn anew in every pass, tests included (published)."""
    offset: Literal["once", "twice"] = "once"
    """Whether a layer's offset is applied again by its head (published)."""
    border: Literal["border", "zeros"] = "border"
    """What depth is mixed with at the edge of a picture; published: zeros."""
    carry: bool = False
    """A Gaussian's feature is that of the patch it lies on, and what the head adds; published: what the head says."""
    cross_view: bool = False
    """Queries attend to those of the other views too, and know where in space they are; published: never."""


@dataclass
class LossConfig:
    """What predicted Gaussians are taught by."""

    feature: float = 5.0
    """Weight of 1 - cosine between rendered and given features."""
    depth: float = 1.0
    """Weight of SILog + `depth_l1` x L1 between rendered, accumulated depth and given depth."""
    depth_l1: float = 0.2
    basis: Literal["fixed", "step"] = "fixed"
    """Principal axes of features in which they are rendered: of the training set, or of each batch (published)."""
    channels: int = 128
    """Number of principal axes, at most; all of them where there are fewer."""
    centred: bool = True
    """Centre features before taking principal axes."""
    segment: float = 0.0
    """Weight of cross entropy on masks of 26 classes (published with FeatUp: 1)."""
    rays: float = 0.0
    """Weight of occupancy along the training rays: what they end in is full, what they pass through is empty."""
    rays_feature: float = 1.0
    """Weight of 1 - cosine of features in full voxels, times `rays`."""
    balance: float = 0.0
    """How much more rare things count along rays: each full voxel by its class's share of the training patches to the
    power of -`balance`; a patch's class is the nearest prompt's, so no label is asked for. 0: all alike."""
    frames: int = 0
    """Frames before and after whose rays are added, moved by the car's motion; needs `rays`."""
    ray_density: float = 0.04
    """Density at which a voxel is as likely full as empty; that above which it is predicted full."""
    max_ray_pixels: int = 25_000
    """Rays taken of a view, at most."""
    max_feature_voxels: int = 2048
    """Full voxels whose features are compared in a step, at most."""


@dataclass
class OccupancyConfig:
    """From Gaussians to classes of voxels."""

    density: float = 0.04
    """Voxels with no more are free."""
    min_opacity: float = 0.0
    """Gaussians below are left out; published with Talk2DINO: 0.6."""
    min_extent: float = 0.0
    """Six times the least variance along an axis (m^2) of Gaussians that count; published with Talk2DINO: 0.015."""
    normalise: bool = True
    """Compare features with texts by cosine; published: by dot product."""
    temperature: float = 0.1
    """Of the softmax over prompts; published: 1."""
    denoise: bool = False
    """Drop prompts that nowhere reach 0.1 of softmax(100 x probability) (published)."""
    softmax_again: bool = False
    """Take a softmax over the averaged probabilities before synonyms are joined (published)."""
    sky: bool = True
    """Voxels of which the sky is the likeliest are free."""


@dataclass
class GaussTRConfig:
    """The whole of it."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    image: tuple[int, int] = (0, 0)
    """Width and height at which views are rendered; 0: those of the pictures."""
    ego_motion: bool = True
    """Account for the car's motion between the pictures' times and the frame's; published: no."""


def published(source: Literal["featup", "talk2dino"] = "talk2dino") -> GaussTRConfig:
    """GaussTR as its code has it, for features of FeatUp's CLIP or of DINOv2 with Talk2DINO's texts."""
    featup = source == "featup"
    return GaussTRConfig(
        network=NetworkConfig(reference="random", offset="twice", border="zeros"),
        loss=LossConfig(basis="step", segment=1.0 if featup else 0.0),
        occupancy=OccupancyConfig(
            min_opacity=0.0 if featup else 0.6,
            min_extent=0.0 if featup else 0.015,
            normalise=False,
            temperature=1.0,
            denoise=True,
            softmax_again=True,
        ),
        image=(768, 432) if featup else (896, 504),
        ego_motion=False,
    )


def small() -> GaussTRConfig:
    """For streets of 96 x 56 pixels on a laptop; taught along rays alone: rendering would double a step on a CPU."""
    return GaussTRConfig(
        network=NetworkConfig(width=64, queries=120, heads=4, ffn=256, head_width=128, dropout=0.0, carry=True),
        loss=LossConfig(feature=0.0, depth=0.0, channels=31, rays=1.0, balance=0.5),
    )
