"""The nerfstudio model: wires anchors, rasteriser, losses and density control together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from nerfstudio.cameras.camera_optimizers import CameraOptimizer
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.models.splatfacto import SplatfactoModel, SplatfactoModelConfig
from nerfstudio.utils.colors import get_color
from torch import Tensor, nn

from ag2_ns.data.masks import MaskSet
from ag2_ns.gaussians.anchors import (
    SH_C0,
    Anchors,
    Children,
    decode,
    initialise,
    random_points,
    scene_extent,
    voxel_size,
)
from ag2_ns.gaussians.checkpoint import TensorStore, fit_to
from ag2_ns.gaussians.density import ScreenStatistics, drop_children, refine, visibility
from ag2_ns.gaussians.gaussians import Gaussians
from ag2_ns.gaussians.growth import GrowthRule, PruneRule
from ag2_ns.gaussians.losses import near_anchor_loss, opacity_cover_loss, photometric_loss
from ag2_ns.gaussians.mask_losses import mask_loss
from ag2_ns.gaussians.metrics import ImageMetrics
from ag2_ns.gaussians.optim import rebind, replace_parameter, resized, zero_moments
from ag2_ns.gaussians.views import view_of
from ag2_ns.graph.anchor_graph import AnchorGraph, build_graph
from ag2_ns.graph.propagation import anchor_visibility, propagation_loss
from ag2_ns.graph.scene_index import SceneIndex
from ag2_ns.indexing import index_scene, merging_graph
from ag2_ns.rasterizer import RenderOutput, choose_rasterizer, render
from ag2_ns.viewer.interaction import Panel

if TYPE_CHECKING:
    from ag2_ns.data.datamanager import AG2DataManager

CHILD_TENSORS = ("offset", "sh_dc", "sh_rest", "log_scale", "quat", "opacity_logit")
"""Trainable tensors with one row per child; also the names of their optimizer groups."""


@dataclass
class AG2ModelConfig(SplatfactoModelConfig):
    """AG2aussian: anchors, children and an instance feature per anchor.

    Steps are those of a run of `schedule_steps` iterations; a run of another length stretches them in proportion.
    """

    _target: type = field(default_factory=lambda: AG2Model)
    rasterizer: Literal["auto", "gsplat", "cpu"] = "auto"
    """Rasteriser backend; auto takes gsplat on CUDA and the CPU backend elsewhere."""
    schedule_steps: int = 10000
    """Length of the run that the steps below are meant for."""
    feature_width: int = 3
    """Width of the instance feature of an anchor."""
    children_per_anchor: int = 5
    """Gaussians that an anchor starts with."""
    initial_opacity: float = 0.1
    """Opacity of the first Gaussians of a point cloud (0.01 published)."""
    random_opacity: float = 0.01
    """Opacity of the first Gaussians of random points, most of which show nothing."""
    max_initial_anchors: int = 200_000
    """Larger point clouds are thinned to this many anchors."""
    num_random: int = 50_000
    """Points to start from when the scene has no point cloud."""
    max_gaussians: int = 3_000_000
    """Growth stops here."""
    offset_lr: float = 2e-2
    """Initial learning rate of offsets, in radii."""
    offset_lr_final: float = 2e-4
    """Final learning rate of offsets; log-linear in between."""
    num_downscales: int = 1
    """Training starts at 1 / 2^n of the resolution."""
    resolution_schedule: int = 500
    """Steps per doubling of the resolution."""
    sh_degree_interval: int = 1000
    """Steps per spherical harmonic band."""
    grow_from: int = 500
    """First step of growth and pruning."""
    grow_until: int = 6000
    """Last step of growth; pruning ends here too."""
    grow_every: int = 100
    """Steps (not stretched) between growth steps."""
    growth: GrowthRule = field(default_factory=GrowthRule)
    """Constants of growth."""
    prune: PruneRule = field(default_factory=PruneRule)
    """Constants of pruning."""
    opacity_reset_every: int = 3000
    """Steps (not stretched) between opacity resets while growth lasts."""
    pause_after_reset: int = 300
    """Steps (not stretched) without growth and pruning after a reset, for opacities to recover."""
    opacity_reset_to: float = 0.01
    """Upper bound of opacity after a reset."""
    near_anchor_weight: float = 0.5
    """Weight of the loss that keeps children near their anchor."""
    opacity_cover_weight: float = 0.1
    """Weight of the loss that covers every pixel."""
    opacity_cover_from: int = 1500
    """First step of that loss."""
    distortion_weight: float = 0.0
    """Weight of depth distortion (20 published)."""
    distortion_from: int = 5000
    """First step of depth distortion."""
    mask_loss: Literal["contrastive", "prototype", "none"] = "contrastive"
    """Loss that trains instance features on the masks of the view."""
    mask_loss_weight: float = 0.1
    """Its weight."""
    mask_loss_from: int = 6000
    """First step of that loss."""
    smooth_weight: float = 3.0
    """Within-mask share of the contrastive loss."""
    contrast_weight: float = 0.5
    """Between-mask share of the contrastive loss."""
    propagation_weight: float = 0.01
    """Weight of feature smoothness along the anchor graph."""
    propagation_from: int = 9000
    """First step of that loss."""
    propagation_tau: float = 0.1
    """Bandwidth of the graph's weights: 0.1 for instances, 0.05 for finer parts."""
    instances: Literal["lifting", "both", "none"] = "lifting"
    """Evidence for the instance tree that the end of training builds: lifted masks, or those and trained features."""
    remove_invisible_at: tuple[int, ...] = (6000,)
    """Steps after which Gaussians that no training view shows are dropped."""
    invisible_below: float = 1.0
    """A Gaussian is invisible when its rendering weight over all training views is below this many pixels."""


class AG2Model(SplatfactoModel):
    """Anchor-structured Gaussians that every nerfstudio command can train, render, evaluate and export."""

    config: AG2ModelConfig

    def populate_modules(self) -> None:
        """Build anchors from the scene's points (or random ones) and everything that is not a parameter."""
        c = self.config
        centres = (self.kwargs.get("metadata") or {}).get("camera_centres")
        centres = torch.eye(3) if centres is None else centres.detach().cpu().float()
        extent = max(scene_extent(centres), 1e-6)
        generator = torch.Generator().manual_seed(0)
        opacity = c.initial_opacity
        if self.seed_points is not None and not c.random_init and len(self.seed_points[0]):
            points, rgb = self.seed_points[0].float().cpu(), self.seed_points[1].float().cpu() / 255.0
        else:
            points, rgb = random_points(centres, c.num_random, generator)
            opacity = c.random_opacity
        anchors, children = initialise(
            points,
            rgb,
            extent,
            children_per_anchor=c.children_per_anchor,
            feature_width=c.feature_width,
            sh_degree=c.sh_degree,
            opacity=opacity,
            max_anchors=c.max_initial_anchors,
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
        self.panel = Panel(self)
        self.step = 0
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.crop_box: OrientedBox | None = None
        viewer_grey = torch.tensor([0.1490, 0.1647, 0.2157])
        self.background_color = viewer_grey if c.background_color == "random" else get_color(c.background_color)
        self._backend = None
        self._statistics: ScreenStatistics | None = None
        self._raster: RenderOutput | None = None
        self._last_step = -1
        self._growth_generator: torch.Generator | None = None
        self._graph: AnchorGraph | None = None
        self._scene_index: SceneIndex | None = None
        self._mask_generator: torch.Generator | None = None

    # What the rest of nerfstudio (export, viewer, crop) reads from a splatfacto model: in evaluation, as edited.

    def _edited(self) -> dict[str, Tensor] | None:
        return None if self.training else self.panel.session.trainable()

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
        return self.features_dc * SH_C0 + 0.5

    @property
    def shs_0(self) -> Tensor:
        """Constant spherical harmonic band, N x 3."""
        return self.features_dc

    # Structure.

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
            new_children: their children; indices count on from all A old anchors.
            optimizers: by parameter group name.
        """
        old_anchors, old_children = self.anchor_state(), self.child_state()
        kept_anchor, kept_child = keep_anchor.nonzero().squeeze(-1), keep_child.nonzero().squeeze(-1)
        if new_anchors is None or new_children is None:
            none = kept_anchor[:0]
            new_anchors = Anchors(old_anchors.xyz[none], old_anchors.radius[none], old_anchors.feature[none].detach())
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
        self.index.set({})
        self._statistics = self._graph = self._scene_index = None

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
        self.index.set({})
        self._statistics = self._graph = self._scene_index = None

    def build_instances(self, datamanager: AG2DataManager, reach: float | None = None) -> None:
        """Lift the scene's masks onto the anchors and keep the resulting tree and language with the checkpoint.

        Args:
            datamanager: serves views and their masks.
            reach: longest edge of the graph, see `indexing.merging_graph`.
        """
        if self.config.instances == "none" or not hasattr(datamanager, "view_masks"):
            return
        graph = merging_graph(self.anchor_xyz, self.anchor_radius, float(self.extent), reach)
        feature = self.anchor_features().detach() if self.config.instances == "both" else None
        index = index_scene(
            self.gaussians(), self.child_anchor, self.anchor_xyz, graph, datamanager, self.backend(), feature
        )
        self.set_scene_index(index)

    # Training.

    def get_param_groups(self) -> dict[str, list[nn.Parameter]]:
        """One group per child tensor, one for the anchors' feature, and nerfstudio's camera optimizer."""
        groups = {k: [self.child_params[k]] for k in CHILD_TENSORS}
        groups["anchor_feature"] = [self.anchor_params["feature"]]
        self.camera_optimizer.get_param_groups(param_groups=groups)
        return groups

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Take over the optimizers and hook density control into every step."""
        optimizers = training_callback_attributes.optimizers
        assert optimizers is not None
        self.optimizers = optimizers.optimizers
        groups = self.get_param_groups()
        rebind(self.optimizers, groups)
        optimizers.parameters.update({k: v for k, v in groups.items() if k in optimizers.parameters})
        trainer = training_callback_attributes.trainer
        if trainer is not None:
            self._last_step = trainer._start_step + trainer.config.max_num_iterations - 1
        if int(self.schedule_length) == 0:
            length = trainer.config.max_num_iterations if trainer is not None else self.config.schedule_steps
            self.schedule_length.fill_(length)
        self._datamanager = training_callback_attributes.pipeline.datamanager
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [TrainingCallback([before], self.before_step), TrainingCallback([after], self.after_step)]

    def update_to_step(self, step: int) -> None:
        """Remember the step that a loaded checkpoint was written at."""
        self.step = step

    def at(self, step: int) -> int:
        """A step of the configured schedule, stretched to the length of this run."""
        length = int(self.schedule_length) or self.config.schedule_steps
        return round(step * length / self.config.schedule_steps)

    def before_step(self, step: int) -> None:
        """Set the step and the learning rate of the offsets."""
        self.step = step
        c = self.config
        t = min(1.0, step / max(1, self.at(c.schedule_steps)))
        lr = float(c.offset_lr * (c.offset_lr_final / c.offset_lr) ** t)
        for group in self.optimizers["offset"].param_groups if "offset" in self.optimizers else ():
            group["lr"] = lr

    @torch.no_grad()
    def after_step(self, step: int) -> None:
        """Record screen-space gradients; refine, reset opacity and drop invisible children when they are due."""
        c, out = self.config, self._raster
        self._raster = None
        growing = step <= self.at(c.grow_until)
        if out is not None and growing and out.means2d.grad is not None:
            if self._statistics is None:
                self._statistics = ScreenStatistics.zeros(self.num_points, self.device)
            height, width = out.rgb.shape[:2]
            self._statistics.add(out.means2d.grad, out.radii, width, height)
        was_reset, since_reset = bool(self.opacity_was_reset), step % c.opacity_reset_every
        paused = was_reset and since_reset < c.pause_after_reset
        due = step >= self.at(c.grow_from) and step % c.grow_every == 0 and not paused
        if growing and due and self._statistics is not None:
            if self._growth_generator is None:
                self._growth_generator = torch.Generator(self.device).manual_seed(step)
            self._statistics = refine(
                self,
                self._statistics,
                self.optimizers,
                extent=float(self.extent),
                voxel=voxel_size(float(self.extent)),
                growth=c.growth,
                prune=c.prune,
                grow=True,
                use_screen_size=was_reset,
                after_reset=was_reset and since_reset < c.pause_after_reset + c.grow_every,
                max_gaussians=c.max_gaussians,
                generator=self._growth_generator,
            )
        if growing and step > 0 and step % c.opacity_reset_every == 0 and step < self.at(c.grow_until):
            self.reset_opacity()
        if step > 0 and any(step == self.at(s) for s in c.remove_invisible_at):
            self.remove_invisible()
        if step == self._last_step:
            self.build_instances(self._datamanager)

    def reset_opacity(self) -> None:
        """Lower every opacity to at most `opacity_reset_to`."""
        logit = self.child_params["opacity_logit"]
        logit.data.clamp_(max=torch.tensor(self.config.opacity_reset_to).logit().item())
        zero_moments(self.optimizers.get("opacity_logit"), logit)
        self.opacity_was_reset.fill_(True)

    def remove_invisible(self) -> None:
        """Drop children that no training view shows, and the anchors this leaves empty."""
        cameras = self._datamanager.train_dataset.cameras
        views = [view_of(cameras[i : i + 1].to(self.device)) for i in range(len(cameras))]
        seen = visibility(self.gaussians().detach(), views, self.backend())
        drop_children(self, seen >= self.config.invisible_below, self.optimizers)

    def load_state_dict(self, state: dict[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a checkpoint with any number of anchors and children.

        Raises:
            UserError: the checkpoint is truncated or of another configuration.
        """
        fit_to(self, state, self.device)
        self.index.set({})
        self._statistics = self._graph = self._scene_index = None
        return nn.Module.load_state_dict(self, state, **kwargs)

    # Rendering.

    def backend(self):
        """The rasteriser, chosen on first use."""
        if self._backend is None:
            self._backend = choose_rasterizer(self.config.rasterizer, self.device)
        return self._backend

    def _sh_degree(self) -> int:
        if not self.training:
            return self.config.sh_degree if int(self.schedule_length) == 0 else self._sh_degree_at(self.step)
        return self._sh_degree_at(self.step)

    def _sh_degree_at(self, step: int) -> int:
        return min(step // max(1, self.at(self.config.sh_degree_interval)), self.config.sh_degree)

    def _get_downscale_factor(self) -> int:
        if not self.training:
            return 1
        doublings = self.step // max(1, self.at(self.config.resolution_schedule))
        return 2 ** max(self.config.num_downscales - doublings, 0)

    def _needs_feature(self) -> bool:
        return self.config.mask_loss != "none" and self.step >= self.at(self.config.mask_loss_from)

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """Render one camera.

        Returns:
            In training rgb, accumulation and background, and what the losses of the step need; in evaluation what
            `ag2_ns.viewer.outputs.scene_outputs` lists, of the scene as edited.
        """
        if not isinstance(camera, Cameras):
            return {}
        background = self._get_background_color()
        if not self.training:
            return self.panel.session.outputs(view_of(camera), background, self.crop_box, self._sh_degree())
        feature = self.anchor_features()[self.child_anchor] if self._needs_feature() else None
        view = view_of(camera, self.camera_optimizer.apply_to_camera(camera), 1 / self._get_downscale_factor())
        c = self.config
        distort = c.distortion_weight > 0 and self.step >= self.at(c.distortion_from)
        out = render(
            self.gaussians(),
            view,
            self.backend(),
            sh_degree=self._sh_degree(),
            feature=feature,
            depth=distort,
            moments=distort,
        )
        if out.means2d.requires_grad:
            out.means2d.retain_grad()
            self._raster = out
        rgb = (out.rgb + (1 - out.alpha) * background).clamp(0, 1)
        outputs = {"rgb": rgb, "accumulation": out.alpha, "background": background}
        extra = {"depth": out.depth, "feature": out.feature, "distortion": out.distortion}
        return outputs | {name: value for name, value in extra.items() if value is not None}

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict | None = None
    ) -> dict[str, Tensor]:
        """The losses of `losses.py`, weighted; see the configuration for when each starts."""
        c, step = self.config, self.step
        has_alpha = batch["image"].shape[-1] == 4
        target = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        prediction = outputs["rgb"]
        if "mask" in batch:
            mask = self._downscale_if_required(batch["mask"]).to(self.device)
            target, prediction = target * mask, prediction * mask
        losses = {"main_loss": photometric_loss(prediction, target, c.ssim_lambda)}
        if not self.training:
            return losses
        if self._raster is not None and c.near_anchor_weight > 0:
            child, radius = self.child_params, self.anchor_radius[self.child_anchor]
            losses["near_anchor"] = c.near_anchor_weight * near_anchor_loss(
                child["offset"], child["log_scale"].exp(), radius, self._raster.radii > 0
            )
        if step >= self.at(c.opacity_cover_from) and not has_alpha and "mask" not in batch:
            losses["opacity_cover"] = c.opacity_cover_weight * opacity_cover_loss(outputs["accumulation"])
        if "distortion" in outputs:
            losses["distortion"] = c.distortion_weight * outputs["distortion"].mean() / self.extent**2
        if "masks" in batch and outputs.get("feature") is not None:
            losses.update(self._feature_losses(outputs["feature"], batch["masks"]))
        self.camera_optimizer.get_loss_dict(losses)
        return losses

    def _feature_losses(self, feature: Tensor, masks: MaskSet) -> dict[str, Tensor]:
        """The losses that train instance features, once they have started."""
        c, losses = self.config, {}
        if c.mask_loss != "none" and self.step >= self.at(c.mask_loss_from) and self._get_downscale_factor() == 1:
            if self._mask_generator is None:
                self._mask_generator = torch.Generator(self.device).manual_seed(0)
            loss = mask_loss(
                c.mask_loss,
                feature,
                masks,
                smooth_weight=c.smooth_weight,
                contrast_weight=c.contrast_weight,
                generator=self._mask_generator,
            )
            losses["mask"] = c.mask_loss_weight * loss.total
        if c.propagation_weight > 0 and self.step >= self.at(c.propagation_from):
            if self._graph is None:
                self._graph = build_graph(
                    self.anchor_xyz, self.anchor_radius.squeeze(-1), voxel_size(float(self.extent))
                )
            visible = anchor_visibility(self._raster.radii > 0, self.child_anchor, self.anchor_xyz.shape[0])
            smooth = propagation_loss(self.anchor_params["feature"], self._graph, c.propagation_tau, visible)
            losses["propagation"] = c.propagation_weight * smooth
        return losses

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of the training view, and how many anchors and Gaussians there are."""
        target = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        metrics: dict[str, Any] = {
            "psnr": self.metrics.psnr(outputs["rgb"].detach(), target),
            "gaussian_count": self.num_points,
            "anchor_count": self.anchor_xyz.shape[0],
        }
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR and SSIM (and LPIPS where its weights are on disk), and ground truth beside prediction."""
        target = self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])
        prediction = outputs["rgb"]
        return self.metrics(prediction, target), {"img": torch.cat((target, prediction), dim=1)}

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render one camera without gradients, inside `obb_box` if given."""
        self.set_crop(obb_box)
        return self.get_outputs(camera.to(self.device))

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour with the accumulated opacity as alpha, H x W x 4."""
        return torch.cat((outputs[output_name], outputs["accumulation"]), dim=-1)
