"""Edits as values: what to do, and to which Gaussians. `apply.py` carries them out.

An edit names the Gaussians of the trained scene, never those of an edited one, so it stays valid whatever stands
before it in the list. Copies that `Duplicate` makes have the same numbers; `copy` tells them apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.ops.similarity import Similarity

Vector = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class Members:
    """A set of Gaussians of the trained scene, one bit each."""

    bits: bytes
    count: int
    """Gaussians in the trained scene."""

    @staticmethod
    def of(mask: Bool[Tensor, " N"]) -> Members:
        """The Gaussians that a mask holds."""
        return Members(np.packbits(mask.detach().cpu().numpy()).tobytes(), mask.shape[0])

    @staticmethod
    def none(count: int) -> Members:
        """No Gaussian out of `count`."""
        return Members(bytes(-(-count // 8)), count)

    def mask(self, device: torch.device | str = "cpu") -> Bool[Tensor, " N"]:
        """The set as a mask."""
        bits = np.unpackbits(np.frombuffer(self.bits, np.uint8), count=self.count)
        return torch.from_numpy(bits.view(bool)).to(device)

    @cached_property
    def size(self) -> int:
        """Gaussians in the set."""
        return int(np.unpackbits(np.frombuffer(self.bits, np.uint8)).sum())


@dataclass(frozen=True)
class Edit:
    """What all edits have in common."""

    name: ClassVar[str]
    """The operation, as files and commands call it."""

    members: Members
    """The Gaussians it acts on."""
    label: str = field(default="", kw_only=True)
    """What was selected, for lists of edits."""
    copy: int | None = field(default=None, kw_only=True)
    """Which copy of them: 0 as trained, k as the k-th duplicate of the list; None for all."""

    def describe(self) -> str:
        """One line for people."""
        which = "" if self.copy is None else f" (copy {self.copy})"
        return f"{self.name} {self.label or 'selection'}{which}: {self.members.size} Gaussians"


@dataclass(frozen=True)
class Delete(Edit):
    """Remove the members.

    `residue` and `spared` are what `cleanup.py` found: Gaussians outside of the selection that mainly drew the object
    and go with it, and members that mainly draw something else and stay.
    """

    name = "delete"
    residue: Members | None = None
    spared: Members | None = None

    def describe(self) -> str:
        """One line for people."""
        parts = [f"{self.residue.size} left over removed too"] if self.residue and self.residue.size else []
        parts += [f"{self.spared.size} of its support kept"] if self.spared and self.spared.size else []
        return super().describe() + "".join(f", {p}" for p in parts)


@dataclass(frozen=True)
class Isolate(Edit):
    """Keep the members only (`spared` members, which mainly draw something else, go too)."""

    name = "isolate"
    spared: Members | None = None


@dataclass(frozen=True)
class Transform(Edit):
    """Scale and rotate the members about a pivot, then move them."""

    name = "transform"
    pivot: Vector = (0.0, 0.0, 0.0)
    wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0)
    scale: float = 1.0
    translation: Vector = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        values = (*self.pivot, *self.wxyz, self.scale, *self.translation)
        if not all(math.isfinite(v) for v in values):
            raise UserError(f"{self.name}: a number is not finite; give finite numbers")
        if not any(self.wxyz):
            raise UserError(f"{self.name}: the rotation has length 0; give an axis or quaternion that is not zero")
        if not self.scale > 0:
            raise UserError(f"{self.name}: scale {self.scale:g} must be above 0; use delete to remove something")

    @property
    def similarity(self) -> Similarity:
        """The transform."""
        return Similarity.about(self.pivot, self.wxyz, self.scale, self.translation)

    def describe(self) -> str:
        """One line for people."""
        return super().describe() + "".join(f", {p}" for p in self._parts())

    def _parts(self) -> list[str]:
        parts = []
        w, *axis = self.wxyz
        length = math.hypot(*axis)
        if length > 0:
            degrees = math.degrees(2 * math.atan2(length, w))
            parts.append(f"rotated {degrees:.4g} degrees about ({', '.join(f'{a / length:.3g}' for a in axis)})")
        if self.scale != 1:
            parts.append(f"scaled by {self.scale:.4g}")
        if any(self.translation):
            parts.append(f"moved by ({', '.join(f'{t:.4g}' for t in self.translation)})")
        return parts or ["unchanged"]


@dataclass(frozen=True)
class Duplicate(Transform):
    """Add a transformed copy of the members; the first duplicate of a list is copy 1, and so on."""

    name = "duplicate"


@dataclass(frozen=True)
class Recolour(Edit):
    """Blend the members towards a colour, keeping their light and shadow."""

    name = "recolour"
    rgb: Vector = (1.0, 0.0, 0.0)
    """Red, green, blue, 0 to 1."""
    strength: float = 1.0
    """0 leaves the colours, 1 replaces them."""

    def __post_init__(self) -> None:
        if not all(0 <= c <= 1 for c in self.rgb):
            raise UserError(f"recolour: {self.rgb} is no colour; give red, green and blue from 0 to 1")
        if not 0 <= self.strength <= 1:
            raise UserError(f"recolour: strength {self.strength:g} must be from 0 (keep) to 1 (replace)")

    def describe(self) -> str:
        """One line for people."""
        r, g, b = (round(255 * c) for c in self.rgb)
        return f"{super().describe()}, #{r:02x}{g:02x}{b:02x} at {self.strength:.0%}"


@dataclass(frozen=True)
class Patch(Edit):
    """Close a hole with equal flat Gaussians.

    Each belongs to what its source belongs to: deleting or moving that takes it along. The members are the sources.
    """

    name = "patch"
    source: bytes = b""
    """The trained Gaussian that each of P new ones stands beside, int32."""
    centre: bytes = b""
    """Where each goes, P x 3 float32, scene units."""
    rgb: bytes = b""
    """Its colour (constant band; the others are 0), P x 3 float32."""
    wxyz: Quaternion = (1.0, 0.0, 0.0, 0.0)
    """Orientation of all."""
    scales: Vector = (1.0, 1.0, 1.0)
    """Standard deviations of all, scene units."""
    opacity: float = 1.0
    """Of all."""

    @staticmethod
    def of(
        source: Int[Tensor, " P"],
        centre: Float[Tensor, "P 3"],
        rgb: Float[Tensor, "P 3"],
        count: int,
        label: str = "",
        *,
        wxyz: Quaternion,
        scales: Vector,
        opacity: float,
    ) -> Patch:
        """A patch from tensors; `count` is the number of Gaussians in the trained scene."""
        mask = torch.zeros(count, dtype=torch.bool)
        mask[source.cpu()] = True
        kinds = ((source, "<i4"), (centre, "<f4"), (rgb, "<f4"))
        packed = [t.detach().cpu().numpy().astype(kind).tobytes() for t, kind in kinds]
        return Patch(Members.of(mask), *packed, wxyz, scales, opacity, label=label, copy=0)

    def __post_init__(self) -> None:
        if len(self.centre) != 3 * len(self.source) or len(self.rgb) != len(self.centre):
            raise ValueError("a patch needs one centre and one colour per source")
        source = np.frombuffer(self.source, "<i4")
        if len(source) and not 0 <= source.min() <= source.max() < self.members.count:
            raise ValueError("a patch names a Gaussian that the scene does not have")

    def __len__(self) -> int:
        return len(self.source) // 4

    def tensors(
        self, device: torch.device | str = "cpu"
    ) -> tuple[Int[Tensor, " P"], Float[Tensor, "P 3"], Float[Tensor, "P 3"]]:
        """Source (int64), centre and colour of the new Gaussians."""
        source = torch.from_numpy(np.frombuffer(self.source, "<i4").astype(np.int64))
        rows = [torch.from_numpy(np.frombuffer(b, "<f4").reshape(-1, 3).copy()) for b in (self.centre, self.rgb)]
        return source.to(device), rows[0].to(device), rows[1].to(device)

    def describe(self) -> str:
        """One line for people."""
        return f"patch hole left by {self.label or 'selection'}: {len(self)} Gaussians added"


@dataclass(frozen=True)
class Brighten(Edit):
    """Make each member so many times as bright: what a shadow took away."""

    name = "brighten"
    factor: bytes = b""
    """Of each member, in order, float16."""

    @staticmethod
    def of(mask: Bool[Tensor, " N"], factor: Float[Tensor, " K"], label: str = "") -> Brighten:
        """From a mask of K trained Gaussians and a factor of each."""
        packed = factor.detach().cpu().numpy().astype("<f2").tobytes()
        return Brighten(Members.of(mask), packed, label=label, copy=0)

    def __post_init__(self) -> None:
        if len(self.factor) != 2 * self.members.size:
            raise ValueError("brighten needs one factor per member")

    def factors(self, device: torch.device | str = "cpu") -> Float[Tensor, " N"]:
        """The factor of each Gaussian of the trained scene, 1 for those that are no members."""
        out = torch.ones(self.members.count, device=device)
        values = np.frombuffer(self.factor, "<f2").astype(np.float32)
        out[self.members.mask(device)] = torch.from_numpy(values).to(device)
        return out

    def describe(self) -> str:
        """One line for people."""
        return f"lift shadow of {self.label or 'selection'}: {self.members.size} Gaussians"


OPERATIONS: dict[str, type[Edit]] = {
    t.name: t for t in (Delete, Isolate, Transform, Duplicate, Recolour, Patch, Brighten)
}
"""Edits by the name they have in files."""


def axis_angle(axis: Vector, degrees: float) -> Quaternion:
    """The quaternion w, x, y, z that turns by `degrees` about `axis`, right-handed.

    Raises:
        UserError: an axis of length 0 or a number that is not finite.
    """
    length = math.hypot(*axis)
    if not (math.isfinite(length) and math.isfinite(degrees)) or length == 0:
        raise UserError(f"rotate: axis {axis} and angle {degrees} must be finite and the axis not zero")
    half = math.radians(degrees) / 2
    x, y, z = (a / length * math.sin(half) for a in axis)
    return (math.cos(half), x, y, z)
