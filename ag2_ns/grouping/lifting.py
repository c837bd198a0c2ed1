"""Masks lifted onto Gaussians by their rendering weights: one colour-only forward and backward per view, no training.

A mask m of view v, put through the transpose of compositing, gives for every Gaussian the sum over the mask's pixels
of its rendering weight T * alpha: how many pixels of the mask it accounts for. Summed over the Gaussians of an anchor
(or of a region) that is the anchor's (the region's) weight inside the mask; a map of ones gives its visible area.
(Alpha-weight lifting; LUDVIG, Occam's LGS and the Splat Feature Solver use the same weights for features.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View
from ag2_ns.ops.threads import for_ranges
from ag2_ns.rendering.base import Rasterizer

QUANTUM = 1.0 / 256.0
"""Lifted weights are rounded to this many pixels: sums of them are then exact in float64, so the order in which a GPU
adds them does not matter, and what is below half of it is not stored."""

BLOCK = 1 << 24
"""Entries whose units are grouped at a time: bounds memory to about 1 GB."""

CHANNELS = 32
"""Masks lifted at a time: bounds memory to (N + H * W) * 32 floats whatever the number of masks."""


@dataclass(frozen=True)
class LiftedMasks:
    """Weights of U units (Gaussians, anchors or regions) in M masks over V views, as two sparse matrices by unit.

    Weights are in pixels. Masks are numbered over all views, view after view; each row lists its masks (its views) in
    ascending order.
    """

    row: Int[Tensor, " U+1"]
    """Entries of unit u in `mask` and `weight` are row[u] to row[u + 1]."""
    mask: Int[Tensor, " P"]
    weight: Float[Tensor, " P"]
    """The unit's weight inside the mask."""
    view_row: Int[Tensor, " U+1"]
    """Entries of unit u in `view`, `total` and `covered` are view_row[u] to view_row[u + 1]."""
    view: Int[Tensor, " Q"]
    total: Float[Tensor, " Q"]
    """The unit's visible area in the view."""
    covered: Float[Tensor, " Q"]
    """The part of `total` on pixels that some mask covers."""
    mask_view: Int[Tensor, " M"]
    """The view of each mask, non-decreasing."""
    mask_area: Float[Tensor, " M"]
    """Pixels in each mask."""
    num_views: int

    @property
    def num_units(self) -> int:
        """U."""
        return self.row.shape[0] - 1

    @property
    def num_masks(self) -> int:
        """M."""
        return self.mask_view.shape[0]

    @property
    def accounted(self) -> Float[Tensor, " M"]:
        """The part of each mask that the units account for: pixels that they leave transparent belong to nobody."""
        return scatter_sum(self.weight, self.mask, self.num_masks)

    @property
    def unit(self) -> Int[Tensor, " P"]:
        """The unit of each (mask, weight) entry."""
        return _expand(self.row)

    @property
    def view_unit(self) -> Int[Tensor, " Q"]:
        """The unit of each (view, total) entry."""
        return _expand(self.view_row)

    @property
    def visible(self) -> Float[Tensor, " U"]:
        """Visible area of each unit, summed over the views."""
        return scatter_sum(self.total, self.view_unit, self.num_units)

    def to(self, device: torch.device | str) -> LiftedMasks:
        """The same weights on `device`."""
        names = [f.name for f in fields(self) if f.name != "num_views"]
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def group(self, unit_group: Int[Tensor, " U"] | Int[Tensor, "U K"], num_groups: int) -> LiftedMasks:
        """The weights of groups of units: of anchors from those of Gaussians, of regions from those of anchors.

        Args:
            unit_group: the group of each unit, or its groups; -1 for none.
            num_groups: how many groups there are.
        """
        columns = (unit_group if unit_group.ndim == 2 else unit_group[:, None]).long().unbind(1)
        summed = _summed_by_loops if self.row.device.type == "cpu" else summed_by_sorting
        mask = summed(self.row, self.mask, (self.weight,), columns, num_groups, self.num_masks)
        view = summed(self.view_row, self.view, (self.total, self.covered), columns, num_groups, self.num_views)
        return LiftedMasks(*mask, *view, self.mask_view, self.mask_area, self.num_views)


def lift_masks(
    rasterizer: Rasterizer,
    gaussians: Gaussians,
    views: Iterable[View],
    masks: Iterable[MaskSet],
    *,
    unit: Int[Tensor, " N"] | None = None,
    num_units: int | None = None,
    channels: int = CHANNELS,
    entries: Int[Tensor, " N"] | None = None,
    progress: Callable[[int], None] | None = None,
) -> LiftedMasks:
    """Lift the masks of every view onto Gaussians, or onto the units that they belong to.

    Args:
        rasterizer: the backend whose `lift` gives the weights.
        gaussians: the N Gaussians, on the device where the work is done.
        views: one camera per view.
        masks: the masks of each view, in the same order, at the view's size; may be read lazily.
        unit: the unit (anchor) of each Gaussian; by default every Gaussian is its own unit.
        num_units: how many units there are; by default the largest one named, plus one.
        channels: how many maps are lifted at a time.
        entries: is increased by how many weights each Gaussian has by itself, whatever its unit.
        progress: called with the number of views done.

    Raises:
        UserError: a view whose masks are of another size, or fewer mask sets than views.
    """
    device = gaussians.device
    num_gaussians = len(gaussians)
    if unit is None:
        unit, num_units = torch.arange(num_gaussians, device=device), num_gaussians
    elif num_units is None:
        num_units = int(unit.max()) + 1 if unit.numel() else 0
    alone = num_units == num_gaussians and bool((unit == torch.arange(num_gaussians, device=device)).all())
    mask_entries, view_entries = _Sorted(num_units, device), _Sorted(num_units, device)
    mask_view: list[int] = []
    areas: list[Tensor] = []
    masks = iter(masks)
    count = 0
    for index, view in enumerate(views):
        view_masks = next(masks, None)
        if view_masks is None:
            raise UserError(f"view {index}: it has no masks; run `ag2 prepare` on the scene")
        if (view_masks.width, view_masks.height) != (view.width, view.height):
            raise UserError(
                f"view {index}: its masks are {view_masks.width}x{view_masks.height} but its image is "
                f"{view.width}x{view.height}; run `ag2 prepare` again at this image size"
            )
        view_masks, totals = view_masks.to(device), []
        for start, maps in _maps(view_masks, channels):
            weight = rasterizer.lift(
                gaussians.means, gaussians.quats, gaussians.scales, gaussians.opacities, maps, view.to(device)
            )
            weight = torch.round(weight.float() / QUANTUM) * QUANTUM
            if entries is not None:
                entries += weight.count_nonzero(1)
            if not alone:
                total = torch.zeros(num_units, weight.shape[1], dtype=torch.float64, device=device)
                weight = total.index_add_(0, unit, weight.double()).float()
            inside = weight[:, : max(len(view_masks) - start, 0)]
            totals.append(weight[:, inside.shape[1] :])
            who, which = inside.nonzero(as_tuple=True)
            mask_entries.add(who, which + (len(mask_view) + start), inside[who, which])
        covered, total = torch.cat(totals, 1).unbind(1)
        seen = total.nonzero().squeeze(1)
        view_entries.add(seen, torch.full_like(seen, index), total[seen], covered[seen])
        mask_view += [index] * len(view_masks)
        areas.append(view_masks.areas.to(device, torch.float32))
        count = index + 1
        if progress is not None:
            progress(count)
    if count == 0:
        raise UserError("there is no view to lift masks from; name a scene with at least one image")
    mask_of_view = torch.tensor(mask_view, dtype=torch.long, device=device)
    return LiftedMasks(*mask_entries.rows(), *view_entries.rows(), mask_of_view, torch.cat(areas), count)


def _maps(masks: MaskSet, channels: int) -> Iterator[tuple[int, Float[Tensor, "H W C"]]]:
    """The masks, the pixels that any of them covers, and ones, as maps, some at a time: (number of the first, maps)."""
    num_masks, pixels = len(masks), masks.height * masks.width
    for start in range(0, num_masks + 2, channels):
        stop = min(start + channels, num_masks + 2)
        width = stop - start
        # One place more, for pairs of other masks: to leave those out would wait for the device.
        flat = torch.zeros(pixels * width + 1, device=masks.pixel.device)
        here = (masks.mask >= start) & (masks.mask < stop)
        flat[torch.where(here, masks.pixel * width + masks.mask - start, pixels * width)] = 1.0
        maps = flat[:-1].view(pixels, width)
        if start <= num_masks < stop:
            maps[masks.pixel, num_masks - start] = 1.0
        if stop == num_masks + 2:
            maps[:, -1] = 1.0
        yield start, maps.reshape(masks.height, masks.width, -1)


class _Sorted:
    """A sparse matrix from parts that come column after column, each sorted by unit.

    There may be a billion entries, so parts are kept in half the width and are put in their places without sorting.
    """

    def __init__(self, num_units: int, device: torch.device) -> None:
        self._count = torch.zeros(num_units, dtype=torch.long, device=device)
        self._parts: deque[tuple[Tensor, ...]] = deque()

    def add(self, unit: Int[Tensor, " P"], column: Int[Tensor, " P"], *values: Float[Tensor, " P"]) -> None:
        """More entries, in columns behind those that were added before, or in the same for other units."""
        self._count += _counts(unit, len(self._count))
        self._parts.append((unit.int(), column.int(), *values))

    def rows(self) -> tuple[Tensor, ...]:
        """Row offsets, columns and values, by unit and then by column. The parts are used up."""
        row = torch.nn.functional.pad(torch.cumsum(self._count, 0), (1, 0))
        free, out = row[:-1].clone(), None
        while self._parts:
            unit, *entries = self._parts.popleft()
            entries[0] = entries[0].long()
            if out is None:
                out = tuple(e.new_empty(int(row[-1])) for e in entries)
            count = _counts(unit.long(), len(free))
            before = torch.cumsum(count, 0) - count
            place = (free - before)[unit] + torch.arange(len(unit), device=unit.device)
            for whole, part in zip(out, entries):
                whole[place] = part
            free += count
        return row, *out


def _counts(index: Int[Tensor, " P"], size: int) -> Int[Tensor, " size"]:
    """`torch.bincount` that does not wait for the device."""
    if index.device.type == "cpu":
        return torch.bincount(index, minlength=size)
    return torch.zeros(size, dtype=torch.long, device=index.device).scatter_add_(0, index, torch.ones_like(index))


def summed_by_sorting(
    row: Int[Tensor, " U+1"],
    column: Int[Tensor, " P"],
    values: tuple[Float[Tensor, " P"], ...],
    groups: Sequence[Int[Tensor, " U"]],
    num_groups: int,
    num_columns: int,
) -> tuple[Tensor, ...]:
    """The rows of a sparse matrix added up by group: row offsets, columns and values.

    Some whole groups at a time, so that memory is bound and time is linear.

    Args:
        row: row offsets.
        column: of each entry.
        values: of each entry.
        groups: of each row; -1 for none. Those of all tensors count.
        num_groups: how many there are.
        num_columns: how many columns there are.
    """
    units, first = _by_group(groups, num_groups)
    length = (row[1:] - row[:-1])[units]
    place = torch.nn.functional.pad(torch.cumsum(length, 0), (1, 0))[first]  # where each group's entries begin
    width, parts = max(num_columns, 1), []
    for start, stop in blocks(place, BLOCK):
        inside = slice(int(first[start]), int(first[stop]))
        unit, times = units[inside], length[inside]
        before = torch.cumsum(times, 0) - times
        entry = torch.repeat_interleave(row[unit] - before, times)
        entry += torch.arange(len(entry), device=entry.device)
        group = torch.repeat_interleave(
            torch.arange(start, stop, device=row.device), place[start + 1 : stop + 1] - place[start:stop]
        )
        key, index = torch.unique(group * width + column[entry], return_inverse=True)
        sums = (torch.zeros(len(key), dtype=torch.float64, device=key.device) for _ in values)
        parts.append(
            (key, *(total.index_add_(0, index, v[entry].double()).to(v.dtype) for total, v in zip(sums, values)))
        )
    key, *sums = (torch.cat(part) for part in zip(*parts)) if parts else (column[:0], *(v[:0] for v in values))
    group = torch.div(key, width, rounding_mode="floor")
    out = torch.nn.functional.pad(torch.cumsum(torch.bincount(group, minlength=num_groups), 0), (1, 0))
    return out, key - group * width, *sums


def _by_group(groups: Sequence[Int[Tensor, " U"]], num_groups: int) -> tuple[Int[Tensor, " K"], Int[Tensor, " G+1"]]:
    """The units of each group, group after group, and where those of each begin."""
    every = torch.cat([torch.where(g >= 0, g, num_groups) for g in groups])
    units = torch.argsort(every, stable=True) % max(len(groups[0]), 1)
    count = torch.bincount(every, minlength=num_groups + 1)[:num_groups]
    return units[: int(count.sum())], torch.nn.functional.pad(torch.cumsum(count, 0), (1, 0))


def _summed_by_loops(
    row: Tensor, column: Tensor, values: tuple[Tensor, ...], groups: Sequence[Tensor], num_groups: int, num_columns: int
) -> tuple[Tensor, ...]:
    """`summed_by_sorting` by compiled loops on the CPU, where that takes a tenth of the time."""
    from ag2_ns.grouping.group_kernel import add_rows, count_columns

    units, first = (t.numpy() for t in _by_group(groups, num_groups))
    from_, to = (row.numpy(), column.numpy()), np.zeros(num_groups, np.int64)
    for_ranges(count_columns, num_groups, first, units, *from_, num_columns, to)
    out_row = np.concatenate([[0], np.cumsum(to)])
    one, other = (*(v.numpy() for v in values), np.zeros(0, np.float32))[:2]
    sums = np.empty(out_row[-1], one.dtype), np.empty(out_row[-1] if len(values) > 1 else 0, one.dtype)
    out_column = np.empty(out_row[-1], np.int64)
    for_ranges(add_rows, num_groups, first, units, *from_, one, other, num_columns, out_row, out_column, *sums)
    return tuple(torch.from_numpy(a) for a in (out_row, out_column, *sums[: len(values)]))


def blocks(row: Int[Tensor, " U+1"], size: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about `size` entries."""
    last = len(row) - 1
    marks = torch.tensor(range(size, int(row[-1]), size), dtype=row.dtype, device=row.device)
    cuts = torch.searchsorted(row, marks).clamp_(max=last).tolist()
    start = 0
    for stop in [*cuts, last]:
        if stop > start:
            yield start, stop
            start = stop


def _expand(row: Int[Tensor, " U+1"]) -> Int[Tensor, " P"]:
    """The row of each entry, from the row offsets."""
    return torch.repeat_interleave(torch.arange(row.shape[0] - 1, device=row.device), row[1:] - row[:-1])


def scatter_sum(values: Float[Tensor, " P"], index: Int[Tensor, " P"], size: int) -> Float[Tensor, " size"]:
    """Sums by index, exact (so in any order the same) whatever their size: see `QUANTUM`."""
    total = torch.zeros(size, dtype=torch.float64, device=values.device).index_add_(0, index, values.double())
    return total.to(values.dtype)
