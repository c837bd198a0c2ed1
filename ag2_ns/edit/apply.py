"""Edits carried out: pure functions from the trained Gaussians and a list of edits to the edited ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.selection import Selection
from ag2_ns.core.view import View
from ag2_ns.edit.operations import Brighten, Delete, Duplicate, Edit, Isolate, Members, Patch, Recolour, Transform
from ag2_ns.ops.bounds import robust_bounds
from ag2_ns.ops.sh import rgb_to_sh, sh_to_rgb
from ag2_ns.ops.similarity import Similarity
from ag2_ns.rendering.base import Rasterizer

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in luminance (ITU-R BT.709)."""

LEFT = 0.05
"""Share of a selection that has to be there after edits. (Removal spares Gaussians that belong to the support.)"""


@dataclass(frozen=True)
class EditedScene:
    """N' Gaussians after edits, and where each comes from."""

    gaussians: Gaussians
    source: Int[Tensor, " N'"]
    """The trained Gaussian that each is, or is a copy of: what belongs to that one belongs to this one."""
    copy: Int[Tensor, " N'"]
    """0 as trained (and patches), k in the k-th duplicate."""
    anchor: Int[Tensor, " N'"]
    """The anchor of each Gaussian, that of its source."""
    duplicates: int = 0
    """Duplicates made so far."""

    def __len__(self) -> int:
        return len(self.source)

    def follow(self, values: Tensor) -> Tensor:
        """Values of the trained Gaussians (features, labels, scores; [N, ...]) for the edited ones, [N', ...]."""
        return values[self.source]

    def selected(self, selection: Selection) -> Bool[Tensor, " N'"]:
        """The edited Gaussians, copies included, that a selection holds."""
        return self.follow(selection.gaussian_mask)

    def removed(self, selection: Selection) -> bool:
        """Whether edits have removed a selection."""
        return int(self.selected(selection).sum()) < LEFT * int(selection.gaussian_mask.sum())

    def trained(self, mask: Bool[Tensor, " N'"], count: int) -> Bool[Tensor, " N"]:
        """The trained Gaussians (of `count`) that chosen edited ones come from."""
        out = torch.zeros(count, dtype=torch.bool, device=mask.device)
        out[self.source[mask]] = True
        return out

    def copy_shown(self, selection: Selection, rasterizer: Rasterizer, view: View) -> int:
        """The copy of what is selected that a view shows most of."""
        g, maps = self.gaussians, torch.ones(view.height, view.width, 1, device=self.source.device)
        weight = rasterizer.lift(g.means, g.quats, g.scales, g.opacities, maps, view.to(maps.device))[:, 0]
        return int(torch.bincount(self.copy, weight * self.selected(selection)).argmax())

    def instances(self, node: Int[Tensor, " N"], first: int | None = None) -> tuple[Int[Tensor, " N'"], dict[int, int]]:
        """Instance of each edited Gaussian, where every duplicate of an instance is an instance of its own.

        Args:
            node: the instance of each trained Gaussian, -1 for none (`SceneIndex.gaussian_node`).
            first: a number above all instances, by default the next one; copy k of instance n is k * first + n.

        Returns:
            Instances, and for those that are duplicates the one that they are a copy of.
        """
        own = self.follow(node)
        if first is None:
            first = int(node.max()) + 1 if len(node) else 0
        out = torch.where(own >= 0, own + first * self.copy, own)
        copies = torch.unique(out[out >= first]).tolist()
        return out, {number: number % first for number in copies}


def apply_edits(gaussians: Gaussians, gaussian_anchor: Int[Tensor, " N"], edits: Iterable[Edit]) -> EditedScene:
    """The scene after `edits`, carried out in order; differentiable in the tensors of `gaussians`.

    Args:
        gaussians: N trained Gaussians; not changed.
        gaussian_anchor: the anchor of each.
        edits: on any of them.

    Raises:
        UserError: an edit made for another number of Gaussians.
    """
    count = len(gaussians)
    index = torch.arange(count, device=gaussians.device)
    scene = EditedScene(gaussians, index, torch.zeros_like(index), gaussian_anchor.to(index.device))
    for edit in edits:
        if edit.members.count != count:
            raise UserError(
                f"edit '{edit.describe()}' was made for {edit.members.count} Gaussians but the scene has {count}; "
                "clear the edits, or load the run that they were made for"
            )
        scene = _carry_out(scene, edit)
    return scene


def _carry_out(scene: EditedScene, edit: Edit) -> EditedScene:
    on = _rows(scene, edit, edit.members)
    if isinstance(edit, Delete):
        if edit.spared is not None:
            on &= ~_rows(scene, edit, edit.spared)
        if edit.residue is not None:
            on |= _rows(scene, edit, edit.residue)
        return _keep(scene, ~on)
    if isinstance(edit, Isolate):
        return _keep(scene, on if edit.spared is None else on & ~_rows(scene, edit, edit.spared))
    if isinstance(edit, Duplicate):
        return _duplicate(scene, on, edit.similarity)
    if isinstance(edit, Transform):
        return replace(scene, gaussians=_put(scene.gaussians, on, edit.similarity.gaussians(scene.gaussians[on])))
    if isinstance(edit, Recolour):
        return replace(scene, gaussians=_put(scene.gaussians, on, recoloured(scene.gaussians[on], edit)))
    if isinstance(edit, Brighten):
        factor = torch.where(on, edit.factors(on.device)[scene.source], 1.0).to(scene.gaussians.sh)
        return replace(scene, gaussians=brightened(scene.gaussians, factor))
    if isinstance(edit, Patch):
        return _patch(scene, edit)
    raise TypeError(f"unknown edit {type(edit).__name__}")


def _rows(scene: EditedScene, edit: Edit, members: Members) -> Bool[Tensor, " N'"]:
    on = members.mask(scene.source.device)[scene.source]
    return on if edit.copy is None else on & (scene.copy == edit.copy)


def _keep(scene: EditedScene, keep: Bool[Tensor, " N'"]) -> EditedScene:
    keep = keep.nonzero().squeeze(1)
    return replace(
        scene,
        gaussians=scene.gaussians[keep],
        source=scene.source[keep],
        copy=scene.copy[keep],
        anchor=scene.anchor[keep],
    )


def _put(gaussians: Gaussians, on: Bool[Tensor, " N'"], new: Gaussians) -> Gaussians:
    """`gaussians` with the rows in `on` replaced."""
    where = on.nonzero().squeeze(1)
    names = ("means", "quats", "scales", "opacities", "sh")
    return Gaussians(*(getattr(gaussians, n).index_copy(0, where, getattr(new, n)) for n in names))


def _append(scene: EditedScene, rows: Int[Tensor, " P"], new: Gaussians, copy: Int[Tensor, " P"]) -> EditedScene:
    """The scene with copies of `rows` that look like `new`."""
    names = ("means", "quats", "scales", "opacities", "sh")
    joined = Gaussians(*(torch.cat([getattr(scene.gaussians, n), getattr(new, n)]) for n in names))
    return replace(
        scene,
        gaussians=joined,
        source=torch.cat([scene.source, scene.source[rows]]),
        copy=torch.cat([scene.copy, copy]),
        anchor=torch.cat([scene.anchor, scene.anchor[rows]]),
    )


def _duplicate(scene: EditedScene, on: Bool[Tensor, " N'"], similarity: Similarity) -> EditedScene:
    rows = on.nonzero().squeeze(1)
    number = scene.duplicates + 1
    scene = _append(scene, rows, similarity.gaussians(scene.gaussians[rows]), torch.full_like(rows, number))
    return replace(scene, duplicates=number)


def _patch(scene: EditedScene, edit: Patch) -> EditedScene:
    source, centre, rgb = edit.tensors(scene.source.device)
    # Where each source stands now; patches of a source that was deleted before are left out.
    at = torch.full((edit.members.count,), -1, dtype=torch.long, device=source.device)
    trained = (scene.copy == 0).nonzero().squeeze(1).flip(0)
    at[scene.source[trained]] = trained
    there = at[source] >= 0
    rows = at[source[there]]
    like = scene.gaussians
    ones = like.means.new_ones(len(rows), 1)
    sh = like.sh.new_zeros(len(rows), *like.sh.shape[1:])
    sh[:, 0] = rgb_to_sh(rgb[there].to(sh))
    new = Gaussians(
        centre[there].to(like.means),
        ones * like.quats.new_tensor(edit.wxyz),
        ones * like.scales.new_tensor(edit.scales),
        ones[:, 0] * edit.opacity,
        sh,
    )
    return _append(scene, rows, new, torch.zeros_like(rows))


def recoloured(gaussians: Gaussians, edit: Recolour) -> Gaussians:
    """Gaussians blended towards a colour that keeps their shading.

    What is darker than the mean (weighted by opacity) is taken for shadow and darkens the colour in proportion; what
    is brighter is taken for highlights and added in grey. Higher bands, the change of colour with the direction of
    view, lose their hue but keep their luminance.
    """
    sh, weight = gaussians.sh, gaussians.opacities.detach()
    if len(gaussians) == 0:
        return gaussians
    grey = sh.new_tensor(LUMINANCE)
    base = sh_to_rgb(sh[:, 0])
    luminance = (base.clamp(0, 1) @ grey)[:, None]
    mean = ((weight @ luminance.detach()) / weight.sum().clamp_min(1e-12)).clamp_min(1e-4)
    target = sh.new_tensor(edit.rgb) * (luminance / mean).clamp_max(1) + (luminance - mean).clamp_min(0)
    rest = (sh[:, 1:] @ grey)[..., None].expand_as(sh[:, 1:])
    new = torch.cat([rgb_to_sh(target)[:, None], rest], 1)
    return replace(gaussians, sh=torch.lerp(sh, new, edit.strength))


def brightened(gaussians: Gaussians, factor: Float[Tensor, " N"]) -> Gaussians:
    """Gaussians whose colours are so many times as bright."""
    base = rgb_to_sh(sh_to_rgb(gaussians.sh[:, 0]) * factor[:, None])
    return replace(gaussians, sh=torch.cat([base[:, None], gaussians.sh[:, 1:] * factor[:, None, None]], 1))


def to_trainable(gaussians: Gaussians) -> dict[str, Tensor]:
    """The tensors that nerfstudio's splatfacto tools read, before activation.

    Returns:
        means [N, 3], scales [N, 3] (logarithms), quats [N, 4], features_dc [N, 3], features_rest [N, K - 1, 3],
        opacities [N, 1] (logits).
    """
    tiny = torch.finfo(gaussians.scales.dtype).tiny
    return {
        "means": gaussians.means,
        "scales": gaussians.scales.clamp_min(tiny).log(),
        "quats": gaussians.quats,
        "features_dc": gaussians.sh[:, 0],
        "features_rest": gaussians.sh[:, 1:],
        "opacities": torch.logit(gaussians.opacities, eps=1e-6)[:, None],
    }


def centre_of(gaussians: Gaussians, mask: Bool[Tensor, " N"]) -> tuple[float, float, float]:
    """The middle of the box around the chosen Gaussians, without its floaters: the pivot of rotations and scaling.

    Raises:
        UserError: nothing is chosen.
    """
    if not bool(mask.any()):
        raise UserError("nothing is selected; make a selection before editing")
    low, high = robust_bounds(gaussians.means[mask], gaussians.opacities[mask])
    x, y, z = ((low + high) / 2).tolist()
    return (x, y, z)
