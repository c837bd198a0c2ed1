"""Anchors and their children: initialisation from points, and decoding into Gaussians.

AG2aussian (ICCV 2025), section 3: every Gaussian is the child of an anchor and lies at
`anchor centre + anchor radius * offset`. Anchors carry the instance feature, children carry appearance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.ops.neighbours import nearest
from ag2_ns.ops.sh import rgb_to_sh


@dataclass(frozen=True)
class Anchors:
    """A anchors: where they are, how far their children reach, and what they belong to."""

    xyz: Float[Tensor, "A 3"]
    radius: Float[Tensor, "A 1"]
    feature: Float[Tensor, "A F"]
    """Instance feature, not normalised."""

    def __len__(self) -> int:
        return self.xyz.shape[0]


@dataclass(frozen=True)
class Children:
    """N children in trainable form, grouped in no particular order."""

    anchor: Int[Tensor, " N"]
    """Index of each child's anchor, int64."""
    offset: Float[Tensor, "N 3"]
    """Position relative to the anchor, in anchor radii."""
    sh_dc: Float[Tensor, "N 3"]
    sh_rest: Float[Tensor, "N R 3"]
    log_scale: Float[Tensor, "N 3"]
    quat: Float[Tensor, "N 4"]
    opacity_logit: Float[Tensor, "N 1"]

    def __len__(self) -> int:
        return self.anchor.shape[0]


def child_features(feature: Float[Tensor, "A F"], anchor: Int[Tensor, " N"]) -> Float[Tensor, "N F"]:
    """The features of children's anchors, of unit length.

    Args:
        feature: of the anchors, of any length.
        anchor: each child's anchor.
    """
    return _ChildFeatures.apply(feature, anchor)


class _ChildFeatures(torch.autograd.Function):
    """With the gradient by hand, of half as many small kernels; indexing, moreover, would sort in its backward."""

    @staticmethod
    def forward(ctx, feature: Tensor, anchor: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(feature, dim=1, keepdim=True).clamp_min_(1e-12)
        unit = feature / length
        ctx.save_for_backward(unit, length, anchor)
        return unit.index_select(0, anchor)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        unit, length, anchor = ctx.saved_tensors
        out = torch.zeros_like(unit).index_add_(0, anchor, grad)
        out -= unit * (unit * out).sum(1, keepdim=True)
        return out.div_(length), None


def scene_extent(camera_centres: Float[Tensor, "V 3"]) -> float:
    """1.1 times the largest distance of a training camera from the mean camera centre (3DGS's scene extent)."""
    return 1.1 * float((camera_centres - camera_centres.mean(0)).norm(dim=-1).max())


def voxel_size(extent: float) -> float:
    """Edge of the finest growth voxel: 0.01 * extent / 16."""
    return 0.01 * extent / 16


def voxel_groups(points: Float[Tensor, "P 3"], voxel: float) -> Int[Tensor, " P"]:
    """The number of the voxel of edge `voxel` that each point lies in, among those occupied, by x, then y, then z."""
    group = torch.zeros(len(points), dtype=torch.long, device=points.device)
    for column in torch.floor(points / voxel).long().unbind(1):  # one after the other: 20 times as fast as rows
        value, rank = torch.unique(column, return_inverse=True)
        _, group = torch.unique(group * len(value) + rank, return_inverse=True)
    return group


def one_point_per_voxel(points: Float[Tensor, "P 3"], voxel: float) -> Int[Tensor, " Q"]:
    """Indices of the first point in every occupied voxel of edge `voxel`, ascending."""
    group = voxel_groups(points, voxel)
    first = torch.full((int(group.max()) + 1,), points.shape[0], device=points.device)
    first = first.scatter_reduce(0, group, torch.arange(points.shape[0], device=points.device), "amin")
    return first.sort().values


def decode(anchors: Anchors, children: Children) -> Gaussians:
    """Activate children into Gaussians; differentiable in every trainable tensor of `children`."""
    return Gaussians(
        means=anchors.xyz[children.anchor] + anchors.radius[children.anchor] * children.offset,
        quats=children.quat,
        scales=children.log_scale.exp(),
        opacities=children.opacity_logit.sigmoid().squeeze(-1),
        sh=torch.cat((children.sh_dc[:, None], children.sh_rest), dim=1),
    )


def initialise(
    points: Float[Tensor, "P 3"],
    rgb: Float[Tensor, "P 3"],
    extent: float,
    *,
    children_per_anchor: int = 5,
    feature_width: int = 3,
    sh_degree: int = 3,
    opacity: float = 0.01,
    spread: float = 0.5,
    max_anchors: int | None = None,
    radius_cap: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Anchors, Children]:
    """Anchors at the points, one per voxel, and children around them (AG2aussian's initialisation).

    The radius is the distance to the nearest neighbour, capped at 16 voxels and rounded down to whole voxels, but at
    least one voxel (a radius of 0 would freeze the children). The published offset of 0 makes all children of an
    anchor equal for ever, so they start at random places within `spread` radii.

    Args:
        points: positions in the run's frame.
        rgb: colours in [0, 1].
        extent: see `scene_extent`.
        children_per_anchor: children around each anchor.
        feature_width: width F of the instance feature, which starts as all ones.
        sh_degree: highest spherical harmonic band.
        opacity: initial opacity of a child.
        spread: largest initial |offset| per axis, in radii.
        max_anchors: keep a random subset of at most this many points.
        radius_cap: raise the cap to this many times the median distance between neighbours.
        generator: source of randomness, on the CPU.
    """
    device = points.device
    voxel = voxel_size(extent)
    keep = one_point_per_voxel(points, voxel)
    if max_anchors is not None and len(keep) > max_anchors:
        keep = keep[torch.randperm(len(keep), generator=generator)[:max_anchors].sort().values.to(device)]
    xyz, rgb = points[keep], rgb[keep]
    gap = nearest(xyz, xyz, 2)[0][:, 1:2] if len(xyz) > 1 else torch.full((len(xyz), 1), 16 * voxel, device=device)
    # The published cap of 16 voxels suits dense clouds; in sparse ones children could never cover the gaps.
    cap = max(16 * voxel, radius_cap * float(gap.median())) if len(gap) else 16 * voxel
    radius = (torch.floor(gap.clamp(max=cap) / voxel) * voxel).clamp(min=voxel)
    scale = 0.5 * gap.clamp(min=0.001 * extent)
    anchors = Anchors(xyz, radius, torch.ones(len(xyz), feature_width, device=device))
    rest = torch.zeros(len(xyz), (sh_degree + 1) ** 2 - 1, 3, device=device)
    return anchors, children_around(
        anchors,
        rgb_to_sh(rgb),
        rest,
        scale,
        count=children_per_anchor,
        opacity=opacity,
        spread=spread,
        generator=generator,
    )


def children_around(
    anchors: Anchors,
    sh_dc: Float[Tensor, "A 3"],
    sh_rest: Float[Tensor, "A R 3"],
    scale: Float[Tensor, "A 1"],
    *,
    count: int,
    opacity: float,
    spread: float = 0.5,
    first_anchor: int = 0,
    generator: torch.Generator | None = None,
) -> Children:
    """`count` isotropic children per anchor, at random offsets within `spread` radii on each axis.

    Args:
        anchors: their anchors; child indices count from `first_anchor`.
        sh_dc: colour of each anchor's children, constant band.
        sh_rest: the other bands.
        scale: standard deviation, scene units.
        count: children per anchor.
        opacity: of every child.
        spread: largest |offset| per axis, radii.
        first_anchor: index of the first of `anchors`.
        generator: source of randomness; on its own device.
    """
    device = anchors.xyz.device
    n = len(anchors) * count
    source = device if generator is None else generator.device
    quat = torch.nn.functional.normalize(torch.randn(n, 4, generator=generator, device=source), dim=-1)
    offset = (torch.rand(n, 3, generator=generator, device=source) * 2 - 1) * spread
    return Children(
        anchor=first_anchor + torch.arange(len(anchors), device=device).repeat_interleave(count),
        offset=offset.to(device),
        sh_dc=sh_dc.repeat_interleave(count, 0),
        sh_rest=sh_rest.repeat_interleave(count, 0),
        log_scale=scale.log().repeat_interleave(count, 0).repeat(1, 3),
        quat=quat.to(device),
        opacity_logit=torch.full((n, 1), opacity, device=device).logit(),
    )


def random_points(
    camera_centres: Float[Tensor, "V 3"],
    count: int,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
    """Points and colours for scenes without a point cloud.

    Half of them fill a ball around the mean camera centre uniformly up to the farthest camera; the other half continue
    outwards to ten times that radius with equal numbers per logarithmic shell, so that near and far surfaces alike find
    anchors (uniform cubes leave the near field nearly empty). A single camera gets a reach of 1.
    """
    centre = camera_centres.mean(0)
    reach = float((camera_centres - centre).norm(dim=-1).max()) or 1.0
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    t = torch.rand(count, 1, generator=generator)
    inner = torch.arange(count)[:, None] % 2 == 0
    distance = torch.where(inner, reach * t.pow(1 / 3), reach * torch.pow(torch.tensor(10.0), t))
    xyz = centre + (direction * distance).to(camera_centres)
    return xyz, torch.rand(count, 3, generator=generator).to(camera_centres)


def children_of(gaussians: Gaussians, anchors: Anchors, group: Int[Tensor, " N"]) -> Children:
    """Gaussians as children of the given anchors, in trainable form."""
    tiny = torch.finfo(torch.float32).tiny
    return Children(
        anchor=group,
        offset=(gaussians.means - anchors.xyz[group]) / anchors.radius[group],
        sh_dc=gaussians.sh[:, 0],
        sh_rest=gaussians.sh[:, 1:],
        log_scale=gaussians.scales.clamp(min=tiny).log(),
        quat=gaussians.quats,
        opacity_logit=gaussians.opacities.clamp(1e-6, 1 - 1e-6).logit()[:, None],
    )
