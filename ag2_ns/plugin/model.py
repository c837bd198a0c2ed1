"""The nerfstudio model: what a training step does, and what a camera sees."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.masks import MaskSet
from ag2_ns.core.view import View
from ag2_ns.grouping.anchor_graph import build_graph
from ag2_ns.ops.decode import decode_seen
from ag2_ns.ops.graphed import Graphed
from ag2_ns.plugin.structure import AnchorModel
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering import over, render
from ag2_ns.rendering.gsplat import GsplatRasterizer
from ag2_ns.session.outputs import Looks, feature_looks, scene_outputs
from ag2_ns.splat.anchors import child_features, voxel_size
from ag2_ns.splat.density import ScreenStatistics, beside, drop_children, hiding, least_shown, refine, visibility
from ag2_ns.splat.drawing import Drawing
from ag2_ns.splat.losses import near_anchor_loss, photometric_loss, picture_losses, shrink_loss
from ag2_ns.splat.mask_losses import check_sizes, contrastive_loss, plan_of
from ag2_ns.splat.optim import rebind, zero_moments
from ag2_ns.splat.propagation import anchor_visibility, propagation_loss
from ag2_ns.splat.prototype_loss import prototype_loss

BESIDE = 64
"""Cameras beside those of training that are asked what hides others."""

DISTORTION_NEAR = 0.04
"""Where the depths of the distortion begin, as a share of the extent (2D Gaussian splatting: 0.2 units, in captures
whose extents are about 5)."""


class AG2Model(AnchorModel):
    """Anchor-structured Gaussians that every nerfstudio command can train, render, evaluate and export."""

    # Training.

    def get_training_callbacks(
        self, training_callback_attributes: TrainingCallbackAttributes
    ) -> list[TrainingCallback]:
        """Take over the optimizers and hook density control into every step.

        Raises:
            UserError: instances are to come from features that nothing trains.
        """
        if self.config.instances in ("features", "both") and self.config.mask_loss == "none":
            raise UserError(
                f"instances={self.config.instances}: mask_loss=none leaves the features untrained; set "
                "--pipeline.model.instances lifting or --pipeline.model.mask-loss contrastive"
            )
        optimizers = training_callback_attributes.optimizers
        assert optimizers is not None
        self.optimizers = optimizers.optimizers
        groups = self.get_param_groups()
        rebind(self.optimizers, groups)
        optimizers.parameters.update({k: v for k, v in groups.items() if k in optimizers.parameters})
        trainer = training_callback_attributes.trainer
        logging = None if trainer is None else getattr(trainer.config, "logging", None)
        self._log_every = 1 if logging is None else logging.steps_per_log
        if int(self.schedule_length) == 0:
            length = trainer.config.max_num_iterations if trainer is not None else self.config.schedule_steps
            self.schedule_length.fill_(length)
        self._datamanager = training_callback_attributes.pipeline.datamanager
        masks = getattr(self._datamanager, "view_masks", None)
        self._train_features = masks is not None and masks() is not None
        self._datamanager.wants_masks = self._needs_feature
        before, after = TrainingCallbackLocation.BEFORE_TRAIN_ITERATION, TrainingCallbackLocation.AFTER_TRAIN_ITERATION
        return [TrainingCallback([before], self.before_step), TrainingCallback([after], self.after_step)]

    def update_to_step(self, step: int) -> None:
        """Remember the step that a loaded checkpoint was written at."""
        self.step = step

    def at(self, step: int) -> int:
        """A step of the configured schedule, stretched to the length of this run."""
        length = self.on_host("schedule_length") or self.config.schedule_steps
        return round(step * length / self.config.schedule_steps)

    def _generator_of(self, step: int) -> torch.Generator:
        """Randomness that depends on the step alone: a resumed run draws what the first would have drawn."""
        if self._generator is None:
            self._generator = torch.Generator(self.device)
        return self._generator.manual_seed(step)

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
            gradient = out.means2d.absgrad if c.grow_by == "splits" else out.means2d.grad
            self._statistics.add(gradient, out.radii, width, height)
        was_reset, since_reset = bool(self.on_host("opacity_was_reset")), step % c.opacity_reset_every
        paused = was_reset and since_reset < c.pause_after_reset
        due = step >= self.at(c.grow_from) and step % c.grow_every == 0 and not paused
        if growing and due and self._statistics is not None:
            self._statistics = refine(
                self,
                self._statistics,
                self.optimizers,
                extent=float(self.extent),
                voxel=voxel_size(float(self.extent)),
                growth=c.splits if c.grow_by == "splits" else c.growth,
                prune=c.prune if self.from_points else c.prune_random,
                use_screen_size=was_reset,
                after_reset=was_reset and since_reset < c.pause_after_reset + c.grow_every,
                max_gaussians=c.max_gaussians,
                generator=self._generator_of(step),
            )
        if growing and step > 0 and step % c.opacity_reset_every == 0 and step < self.at(c.grow_until):
            self.reset_opacity()
        unseen, hides = (step > 0 and step in map(self.at, at) for at in (c.remove_invisible_at, c.remove_hiding_at))
        if unseen or hides:
            self.remove_invisible(unseen, hides)
        if c.grow_by == "splits" and step == self.at(c.grow_until):
            self.regroup(c.anchor_voxel, self.optimizers)

    def reset_opacity(self) -> None:
        """Lower every opacity to at most `opacity_reset_to`."""
        logit = self.child_params["opacity_logit"]
        logit.data.clamp_(max=torch.tensor(self.config.opacity_reset_to).logit().item())
        zero_moments(self.optimizers.get("opacity_logit"), logit)
        self.opacity_was_reset.fill_(True)

    def remove_invisible(self, unseen: bool = True, hides: bool = False) -> None:
        """Drop children, and the anchors this leaves empty.

        Args:
            unseen: those that no training view shows.
            hides: those that would hide others from beside the training cameras.
        """
        c, gaussians, views = self.config, self.gaussians().detach(), self.training_views()
        shown = visibility(gaussians, views, self.backend())
        keep = torch.ones_like(shown.total, dtype=torch.bool)
        if unseen:
            keep &= (shown.total >= c.invisible_below) & ~least_shown(shown.total, c.least_shown)
        if hides:
            keep &= ~hiding(shown, gaussians, beside(views, BESIDE), self.backend(), c.hiding_views)
        drop_children(self, keep, self.optimizers)

    @torch.no_grad()
    def training_views(self, cameras: Cameras | None = None) -> list[View]:
        """The training cameras with the poses that were found for them, on the model's device.

        Args:
            cameras: undistorted, in their order; by default those of the datamanager that trains the model.
        """
        cameras = self._datamanager.train_dataset.cameras if cameras is None else cameras
        poses = cameras.camera_to_worlds.to(self.device)
        if self.config.camera_optimizer.mode != "off":  # as `apply_to_camera` does for one
            move = self.camera_optimizer(torch.arange(len(cameras))).to(poses)
            turned = torch.bmm(move[..., :3], poses[..., :3])
            poses = torch.cat((turned, poses[..., 3:] + move[..., 3:]), dim=-1)
        return [view_of(cameras[i : i + 1].to(self.device), poses[i : i + 1]) for i in range(len(cameras))]

    # Rendering.

    def _sh_degree(self) -> int:
        return self._sh_degree_at(self.step) if self.training else self.shown_degree()

    def shown_degree(self) -> int:
        """Highest band of spherical harmonics that pictures show: all for a model that was not trained here."""
        return self.config.sh_degree if self.on_host("schedule_length") == 0 else self._sh_degree_at(self.step)

    def _sh_degree_at(self, step: int) -> int:
        return min(step // max(1, self.at(self.config.sh_degree_interval)), self.config.sh_degree)

    def _get_downscale_factor(self) -> int:
        if not self.training:
            return 1
        doublings = self.step // max(1, self.at(self.config.resolution_schedule))
        return 2 ** max(self.config.num_downscales - doublings, 0)

    def _needs_feature(self, step: int) -> bool:
        """Whether a step renders features and trains them on the masks of its view."""
        c = self.config
        due = step >= self.at(c.mask_loss_from) and step % c.mask_loss_every == 0
        return self._train_features and c.mask_loss != "none" and due

    def get_outputs(self, camera: Cameras) -> dict[str, Tensor]:
        """Render one camera.

        Returns:
            In training premultiplied colours, accumulation, background and what else the losses of the step need; in
            evaluation what `ag2_ns.session.outputs.scene_outputs` lists, of the scene as edited.
        """
        if not isinstance(camera, Cameras):
            return {}
        background = self._get_background_color()
        if not self.training:
            return self._shown_outputs(view_of(camera), background)
        c, featured = self.config, self._needs_feature(self.step)
        pose = None if c.camera_optimizer.mode == "off" else self.camera_optimizer.apply_to_camera(camera)
        view = view_of(camera, pose, 1 / self._get_downscale_factor())
        distort = c.distortion_weight > 0 and self.step >= self.at(c.distortion_from)
        absgrad = c.grow_by == "splits" and self.step <= self.at(c.grow_until)
        plain = pose is None and not distort and self.num_points > 0
        if c.record and plain and isinstance(self.backend(), GsplatRasterizer):
            out, shrink = self._drawing(
                self.anchor_state(),
                self.child_state(),
                camera.camera_to_worlds[0, :3, 3].contiguous(),
                view,
                sh_degree=self._sh_degree(),
                feature=featured,
                absgrad=absgrad,
            )
        else:
            gaussians, colours = self._seen(camera.camera_to_worlds if pose is None else None)
            out = render(
                gaussians,
                view,
                self.backend(),
                sh_degree=self._sh_degree(),
                rgb=colours,
                feature=child_features(self.anchor_params["feature"], self.child_anchor) if featured else None,
                depth=False,
                distortion_near=DISTORTION_NEAR * self.on_host("extent") if distort else None,
                absgrad=absgrad,
            )
            shrink = self._shrink(gaussians.opacities, gaussians.scales)
        if out.means2d.requires_grad:
            out.means2d.retain_grad()
        if out.means2d.requires_grad or out.means2d.grad is not None:
            self._raster = out
        # Nothing of a step but a logged PSNR reads the picture over its background: see `_picture`.
        outputs = {"premultiplied": out.rgb, "accumulation": out.alpha, "background": background}
        extra = {"feature": out.feature, "distortion": out.distortion, "shrink": shrink}
        return outputs | {name: value for name, value in extra.items() if value is not None}

    def _seen(self, pose: Tensor | None) -> tuple[Gaussians, Tensor | None]:
        """The Gaussians and their colours from a camera's pose (1 x 3 x 4).

        A pose that is trained is not given: colours are left to the renderer then, which has a gradient for it.
        """
        if pose is None:
            return self.gaussians(), None
        child, eye = self.child_params, pose[0, :3, 3].contiguous()
        means, scales, opacities, rgb = decode_seen(
            self.anchor_xyz, self.anchor_radius, self.child_anchor, child["offset"], child["log_scale"],
            child["opacity_logit"], child["sh_dc"], child["sh_rest"], eye, self._sh_degree(),
        )  # fmt: skip
        return Gaussians(means, child["quat"], scales, opacities, child["sh_dc"][:, None]), rgb

    def _shrink(self, opacities: Tensor, scales: Tensor) -> Tensor | None:
        """`shrink_loss` in scenes that begin with random points."""
        weights = self.config.random_opacity_weight, self.config.random_scale_weight
        if self.from_points or not any(weights):
            return None
        return shrink_loss(opacities, scales, self.on_host("extent"), *weights)

    @cached_property
    def _drawing(self) -> Drawing:
        return Drawing(self.backend(), self._shrink)

    def forget_recordings(self) -> None:
        """Give back what was recorded on a GPU for training, with the gradients that lie in that memory."""
        for name in ("_drawing", "_contrastive"):
            self.__dict__.pop(name, None)
        self._graphed.clear()
        self._smoothness = None
        for parameter in self.parameters():
            parameter.grad = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _shown_outputs(self, view: View, background: Tensor) -> dict[str, Tensor]:
        if self.shown is not None:
            return self.shown.outputs(view, background, self.crop_box, self._sh_degree())
        with torch.no_grad():
            looks = Looks(feature_looks(self.anchor_features(), self.child_anchor))
            return scene_outputs(self.gaussians(), looks, view, self.backend(), background, sh_degree=self._sh_degree())

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict | None = None
    ) -> dict[str, Tensor]:
        """The losses of `losses.py`, weighted; see the configuration for when each starts."""
        c, step = self.config, self.step
        if "mask" in batch or not self.training:
            target, prediction = self._target(outputs, batch), _picture(outputs)
            if "mask" in batch:
                mask = self._downscale_if_required(batch["mask"]).to(self.device)
                target, prediction = target * mask, prediction * mask
            losses = {"main_loss": photometric_loss(prediction, target, c.ssim_lambda)}
        else:
            image = batch["image"] if self._get_downscale_factor() == 1 else self.get_gt_img(batch["image"])
            covers = step >= self.at(c.opacity_cover_from) and image.shape[-1] != 4
            terms = self._picture_losses(c.ssim_lambda, c.opacity_cover_weight if covers else 0.0)(
                outputs["premultiplied"], outputs["accumulation"], image, outputs["background"]
            )
            losses = dict(zip(("main_loss", "opacity_cover"), terms))
        if not self.training:
            return losses
        anchored = c.grow_by == "cells" or step > self.at(c.grow_until)  # splits end in anchors
        if self._raster is not None and c.near_anchor_weight > 0 and anchored:
            child, radius = self.child_params, self.anchor_radius[self.child_anchor]
            losses["near_anchor"] = c.near_anchor_weight * near_anchor_loss(
                child["offset"], child["log_scale"].exp(), radius, self._raster.radii > 0
            )
        if "shrink" in outputs:
            losses["shrink"] = outputs["shrink"]
        if "distortion" in outputs:
            losses["distortion"] = c.distortion_weight * outputs["distortion"].mean()
        if "masks" in batch and outputs.get("feature") is not None:
            losses.update(self._feature_losses(outputs["feature"], batch["masks"]))
        self.camera_optimizer.get_loss_dict(losses)
        return losses

    def _picture_losses(self, ssim_weight: float, cover_weight: float) -> Graphed:
        """`picture_losses` with these weights, recorded where there is a GPU."""
        key = ssim_weight, cover_weight
        if key not in self._graphed:
            function = partial(picture_losses, ssim_weight=ssim_weight, cover_weight=cover_weight)
            self._graphed[key] = Graphed(function, trained=2)
        return self._graphed[key]

    def _target(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> Tensor:
        """What a picture should show."""
        return self.composite_with_background(self.get_gt_img(batch["image"]), outputs["background"])

    def _feature_losses(self, feature: Tensor, masks: MaskSet) -> dict[str, Tensor]:
        """The losses that train instance features, once they have started."""
        c, losses = self.config, {}
        if c.mask_loss != "none" and self.step >= self.at(c.mask_loss_from) and self._get_downscale_factor() == 1:
            if c.mask_loss == "contrastive":
                check_sizes(feature, masks)
                (losses["mask"],) = self._contrastive(feature, *plan_of(masks, feature.dtype).tensors)
            else:
                losses["mask"] = c.mask_loss_weight * prototype_loss(
                    feature, masks, generator=self._generator_of(self.step)
                )
        if c.propagation_weight > 0 and self.step >= self.at(c.propagation_from):
            (losses["propagation"],) = self._propagation()(self.anchor_params["feature"], self._raster.radii)
        return losses

    @cached_property
    def _contrastive(self) -> Graphed:
        """The weighted contrastive loss of features and a view's masks, recorded where there is a GPU."""
        c = self.config
        smooth, contrast = c.mask_loss_weight * c.smooth_weight, c.mask_loss_weight * c.contrast_weight
        return Graphed(partial(contrastive_loss, smooth_weight=smooth, contrast_weight=contrast), trained=1)

    def _propagation(self) -> Graphed:
        """The weighted smoothness of features along the graph of the present anchors, recorded where there is a GPU."""
        if self._graph is None or self._smoothness is None:
            self._graph = build_graph(self.anchor_xyz, self.anchor_radius.squeeze(-1), voxel_size(float(self.extent)))
            graph, child_anchor, c = self._graph, self.child_anchor, self.config

            def smoothness(feature: Tensor, radii: Tensor) -> Tensor:
                visible = anchor_visibility(radii > 0, child_anchor, len(feature))
                return c.propagation_weight * propagation_loss(feature, graph, c.propagation_tau, visible)[None]

            self._smoothness = Graphed(smoothness, trained=1)
        return self._smoothness

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Any]:
        """PSNR of the training view, and how many anchors and Gaussians there are."""
        metrics: dict[str, Any] = {"gaussian_count": self.num_points, "anchor_count": self.anchor_xyz.shape[0]}
        if not self.training or self.step % self._log_every == 0:  # others are thrown away
            metrics["psnr"] = self.metrics.psnr(_picture(outputs).detach(), self._target(outputs, batch))
        self.camera_optimizer.get_metrics_dict(metrics)
        return metrics

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR and SSIM (and LPIPS where its weights are on disk), and ground truth beside prediction."""
        target, prediction = self._target(outputs, batch), outputs["rgb"]
        return self.metrics(prediction, target), {"img": torch.cat((target, prediction), dim=1)}

    @torch.no_grad()
    def get_outputs_for_camera_ray_bundle(self, camera_ray_bundle: RayBundle) -> dict[str, Tensor]:
        """Refused: a splat is drawn for cameras, not for rays.

        Raises:
            UserError: always; `ns-export tsdf` asks for this.
        """
        raise UserError(
            "ns-export tsdf casts rays, and a splat has none; use `ns-export gaussian-splat`, or `ag2 export --all "
            "--format hulls` for solids"
        )

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """Render one camera without gradients, inside `obb_box` if given."""
        self.set_crop(obb_box)
        return self.get_outputs(camera.to(self.device))

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """Colour with the accumulated opacity as alpha, H x W x 4."""
        return torch.cat((outputs[output_name], outputs["accumulation"]), dim=-1)


def _picture(outputs: dict[str, Tensor]) -> Tensor:
    """What was rendered, over its background."""
    rgb = outputs.get("rgb")
    return over(outputs["premultiplied"], outputs["accumulation"], outputs["background"]) if rgb is None else rgb
