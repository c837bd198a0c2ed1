"""Anchors and children as a nerfstudio model: parameters, buffers, restructuring and loading."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.models.splatfacto import SplatfactoModel
from nerfstudio.utils.colors import get_color
from torch import Tensor, nn

from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import View
from ag2_ns.grouping.anchor_graph import AnchorGraph
from ag2_ns.ops.graphed import Graphed
from ag2_ns.ops.sh import sh_to_rgb
from ag2_ns.plugin.metrics import ImageMetrics
from ag2_ns.plugin.model_config import AG2ModelConfig
from ag2_ns.rendering import RenderOutput, choose_rasterizer
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.splat.anchors import (
    Anchors,
    Children,
    decode,
    initialise,
    random_points,
    scene_extent,
)
from ag2_ns.splat.checkpoint import TensorStore, fit_to
from ag2_ns.splat.density import ScreenStatistics
from ag2_ns.splat.optim import replace_parameter, resized, zero_moments
from ag2_ns.splat.regroup import group_by_voxel

CHILD_TENSORS = ("offset", "sh_dc", "sh_rest", "log_scale", "quat", "opacity_logit")
"""Trainable tensors with one row per child; also the names of their optimizer groups."""


class Shown(Protocol):
    """What pictures of a model show in evaluation, besides what it was trained to: edits and selections."""

    def trainable(self) -> dict[str, Tensor] | None:
        """The edited Gaussians as nerfstudio's exporters read them; None where nothing is edited."""
        ...

    def outputs(
        self, view: View, background: Tensor, crop_box: OrientedBox | None, sh_degree: int | None
    ) -> dict[str, Tensor]:
        """nerfstudio's outputs of one camera."""
        ...


class AnchorModel(SplatfactoModel):
    """The structure of the model: anchors, children, what belongs to them, and how checkpoints and optimizers follow.

    nerfstudio's export, viewer and crop tools recognise a splat by this base class and read it by splatfacto's names.
    """

    config: AG2ModelConfig

    def populate_modules(self) -> None:
        """Build anchors from the scene's points (or random ones) and everything that is not a parameter."""
        c = self.config
        centres = (self.kwargs.get("metadata") or {}).get("camera_centres")
        centres = torch.eye(3) if centres is None else centres.detach().cpu().float()
        extent = scene_extent(centres)
        generator = torch.Generator().manual_seed(0)
        opacity = c.initial_opacity
        self.from_points = self.seed_points is not None and not c.random_init and len(self.seed_points[0]) > 0
        if self.from_points:
            points, rgb = self.seed_points[0].float().cpu(), self.seed_points[1].float().cpu() / 255.0
        else:
            points, rgb = random_points(centres, c.num_random, generator)
            opacity = c.random_opacity
        if extent == 0.0:  # a single training camera: its distance to the points says how large the scene is
            extent = max(float((points - centres.mean(0)).norm(dim=-1).median()), 1e-6)
        anchors, children = initialise(
            points,
            rgb,
            extent,
            children_per_anchor=c.children_per_anchor,
            feature_width=c.feature_width,
            sh_degree=c.sh_degree,
            opacity=opacity,
            max_anchors=c.max_initial_anchors,
            radius_cap=c.radius_cap,
            generator=generator,
        )
        # Equal features would never separate: nothing repels two identical means.
        feature = anchors.feature + 0.1 * torch.randn(anchors.feature.shape, generator=generator)
        self.register_buffer("anchor_xyz", anchors.xyz)
        self.register_buffer("anchor_radius", anchors.radius)
        self.register_buffer("child_anchor", children.anchor)
        self.register_buffer("extent", torch.tensor(extent))
        self.register_buffer("schedule_length", torch.tensor(0))
        self.register_buffer("opacity_was_reset", torch.tensor(False))
        self.anchor_params = nn.ParameterDict({"feature": nn.Parameter(feature)})
        self.child_params = nn.ParameterDict({k: nn.Parameter(getattr(children, k)) for k in CHILD_TENSORS})
        self.index = TensorStore()
        self.camera_optimizer: CameraOptimizer = c.camera_optimizer.setup(num_cameras=self.num_train_data, device="cpu")
        self.metrics = ImageMetrics()
        self.shown: Shown | None = None
        self.step = 0
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.crop_box: OrientedBox | None = None
        viewer_grey = torch.tensor([0.1490, 0.1647, 0.2157])
        self.background_color = viewer_grey if c.background_color == "random" else get_color(c.background_color)
        self._backend = None
        self._host: dict[str, tuple[Tensor, int, int | float]] = {}
        self._statistics: ScreenStatistics | None = None
        self._raster: RenderOutput | None = None
        self._train_features = False
        self._log_every = 1
        self._graphed: dict[tuple[float, float], Graphed] = {}
        self._graph: AnchorGraph | None = None
        self._smoothness: Graphed | None = None
        self._scene_index: SceneIndex | None = None
        self._generator: torch.Generator | None = None

    # What the rest of nerfstudio (export, viewer, crop) reads from a splatfacto model: in evaluation, as edited.

    def _edited(self) -> dict[str, Tensor] | None:
        return None if self.training or self.shown is None else self.shown.trainable()

    @property
    def means(self) -> Tensor:
        """Gaussian centres, N x 3."""
        if (edited := self._edited()) is not None:
            return edited["means"]
        return self.anchor_xyz[self.child_anchor] + self.anchor_radius[self.child_anchor] * self.child_params["offset"]

    @property
    def num_points(self) -> int:
        """Number of Gaussians."""
        return self.child_anchor.shape[0] if (edited := self._edited()) is None else len(edited["means"])

    @property
    def scales(self) -> Tensor:
        """Logarithms of the standard deviations, N x 3."""
        return self.child_params["log_scale"] if (edited := self._edited()) is None else edited["scales"]

    @property
    def quats(self) -> Tensor:
        """Rotations w, x, y, z, N x 4."""
        return self.child_params["quat"] if (edited := self._edited()) is None else edited["quats"]

    @property
    def features_dc(self) -> Tensor:
        """Constant spherical harmonic band, N x 3."""
        return self.child_params["sh_dc"] if (edited := self._edited()) is None else edited["features_dc"]

    @property
    def features_rest(self) -> Tensor:
        """Higher spherical harmonic bands, N x R x 3."""
        return self.child_params["sh_rest"] if (edited := self._edited()) is None else edited["features_rest"]

    @property
    def opacities(self) -> Tensor:
        """Opacity logits, N x 1."""
        return self.child_params["opacity_logit"] if (edited := self._edited()) is None else edited["opacities"]

    @property
    def colors(self) -> Tensor:
        """Colours of the constant band, N x 3."""
        return sh_to_rgb(self.features_dc)

    @property
    def shs_0(self) -> Tensor:
        """Constant spherical harmonic band, N x 3."""
        return self.features_dc

    # Structure.

    def on_host(self, name: str) -> int | float:
        """The value of a buffer of one number, read from the device only after it was written.

        Schedules ask for it several times a step, and every read would make the CPU wait until the GPU is done.
        """
        buffer = getattr(self, name)
        known = self._host.get(name)
        if known is None or known[0] is not buffer or known[1] != buffer._version:
            self._host[name] = known = (buffer, buffer._version, buffer.item())
        return known[2]

    @property
    def propagation_graph(self) -> AnchorGraph | None:
        """The graph that features are smoothed along; None before that begins, and whenever anchors have changed."""
        return self._graph

    @property
    def screen_statistics(self) -> ScreenStatistics | None:
        """What the training views said of the Gaussians since the last growth; None before the first of them."""
        return self._statistics

    def anchor_state(self) -> Anchors:
        """The anchors, with the instance feature as a trainable parameter."""
        return Anchors(self.anchor_xyz, self.anchor_radius, self.anchor_params["feature"])

    def child_state(self) -> Children:
        """The children in trainable form."""
        return Children(self.child_anchor, **{k: self.child_params[k] for k in CHILD_TENSORS})

    def gaussians(self) -> Gaussians:
        """The decoded children."""
        return decode(self.anchor_state(), self.child_state())

    def anchor_features(self) -> Tensor:
        """L2-normalised instance features, A x F."""
        return nn.functional.normalize(self.anchor_params["feature"], dim=-1)

    def restructure(
        self,
        keep_anchor: Tensor,
        keep_child: Tensor,
        new_anchors: Anchors | None,
        new_children: Children | None,
        optimizers: dict[str, torch.optim.Optimizer],
    ) -> None:
        """Drop and append anchors and children, moving optimizer state along.

        Args:
            keep_anchor: A booleans.
            keep_child: N booleans; children of dropped anchors must be dropped too.
            new_anchors: appended anchors, or None.
            new_children: appended children, or None; anchors of theirs that are new count on from all A old ones.
            optimizers: by parameter group name.
        """
        old_anchors, old_children = self.anchor_state(), self.child_state()
        kept_anchor, kept_child = keep_anchor.nonzero().squeeze(-1), keep_child.nonzero().squeeze(-1)
        none = kept_anchor[:0]
        if new_anchors is None:
            new_anchors = Anchors(old_anchors.xyz[none], old_anchors.radius[none], old_anchors.feature[none].detach())
        if new_children is None:
            new_children = Children(none, **{k: getattr(old_children, k)[none].detach() for k in CHILD_TENSORS})
        renumber = torch.full((len(old_anchors) + len(new_anchors),), -1, device=keep_anchor.device)
        renumber[kept_anchor] = torch.arange(len(kept_anchor), device=keep_anchor.device)
        renumber[len(old_anchors) :] = len(kept_anchor) + torch.arange(len(new_anchors), device=keep_anchor.device)
        self.child_anchor = renumber[resized(old_children.anchor, kept_child, new_children.anchor)]
        self.anchor_xyz = resized(old_anchors.xyz, kept_anchor, new_anchors.xyz)
        self.anchor_radius = resized(old_anchors.radius, kept_anchor, new_anchors.radius)
        rows = [("anchor_feature", self.anchor_params, "feature", kept_anchor, new_anchors.feature)]
        rows += [(k, self.child_params, k, kept_child, getattr(new_children, k)) for k in CHILD_TENSORS]
        for group, params, name, keep, extra in rows:
            old = params[name]
            new = nn.Parameter(resized(old.detach(), keep, extra.detach()))
            replace_parameter(optimizers.get(group), old, new, keep)
            params[name] = new
        self._forget_what_hangs_on_anchors()

    @torch.no_grad()
    def regroup(self, voxel: float, optimizers: dict[str, torch.optim.Optimizer]) -> None:
        """Make anchors anew, of the children that lie in one voxel; what is drawn stays the same.

        The feature of an anchor is the mean of those that its children had.

        Args:
            voxel: edge, as a share of the extent.
            optimizers: by parameter group name.
        """
        old, offset = self.anchor_params["feature"], self.child_params["offset"]
        anchors, children = group_by_voxel(self.gaussians().detach(), float(self.extent), voxel)
        total = old.new_zeros(len(anchors), old.shape[1]).index_add_(0, children.anchor, old[self.child_anchor])
        feature = nn.Parameter(total / torch.bincount(children.anchor)[:, None])
        nothing = torch.zeros(0, dtype=torch.long, device=old.device)
        replace_parameter(optimizers.get("anchor_feature"), old, feature, nothing)
        self.anchor_params["feature"] = feature
        offset.data = children.offset
        zero_moments(optimizers.get("offset"), offset)
        self.anchor_xyz, self.anchor_radius, self.child_anchor = anchors.xyz, anchors.radius, children.anchor
        self._forget_what_hangs_on_anchors()

    def _forget_what_hangs_on_anchors(self) -> None:
        self.index.set({})
        self._statistics = self._graph = self._smoothness = self._scene_index = None

    def scene_index(self) -> SceneIndex | None:
        """Graph, tree and language of this run, or None before they were built."""
        if self._scene_index is None and len(self.index):
            self._scene_index = SceneIndex.from_dict(self.index.get())
        return self._scene_index

    def set_scene_index(self, index: SceneIndex | None) -> None:
        """Keep an index with the checkpoint."""
        self.index.set({} if index is None else index.to_dict())
        self._scene_index = index

    def adopt(self, anchors: Anchors, children: Children, extent: float) -> None:
        """Take over structure and parameters made elsewhere, in place of those in use."""
        device = self.device
        self.anchor_xyz, self.anchor_radius = anchors.xyz.to(device), anchors.radius.to(device)
        self.child_anchor = children.anchor.to(device)
        self.anchor_params["feature"] = nn.Parameter(anchors.feature.detach().to(device))
        for name in CHILD_TENSORS:
            self.child_params[name] = nn.Parameter(getattr(children, name).detach().to(device))
        self.extent.fill_(extent)
        self._forget_what_hangs_on_anchors()

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group per child tensor, one for the anchors' feature, and nerfstudio's camera optimizer."""
        groups = {k: [self.child_params[k]] for k in CHILD_TENSORS}
        groups["anchor_feature"] = [self.anchor_params["feature"]]
        self.camera_optimizer.get_param_groups(param_groups=groups)
        return groups

    def load_state_dict(self, state: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a checkpoint with any number of anchors and children.

        Raises:
            UserError: the checkpoint is truncated or of another configuration.
        """
        self._forget_what_hangs_on_anchors()
        fit_to(self, state, self.device)
        loaded = nn.Module.load_state_dict(self, state, **kwargs)
        self.index.to(self.device)  # a checkpoint is read on the CPU
        return loaded

    def backend(self):
        """The rasteriser, chosen on first use."""
        if self._backend is None:
            self._backend = choose_rasterizer(self.config.rasterizer, self.device)
        return self._backend
