"""The feed-forward network as a nerfstudio model, and the pipeline that trains and evaluates it.

Classes here are named in every config.yml of the method: never rename or move them.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig
from torch import Tensor, nn
from torch.nn import Parameter

from ag2_ns.core.errors import UserError
from ag2_ns.core.notice import view_progress
from ag2_ns.eval.occupancy import OccupancyScore, score
from ag2_ns.feedforward.config import LossConfig, NetworkConfig, OccupancyConfig
from ag2_ns.feedforward.decoder import mlp
from ag2_ns.feedforward.losses import nearest, rarity, step_axes
from ag2_ns.feedforward.model import Batch, GaussTR, Predicted
from ag2_ns.feedforward.objective import objective
from ag2_ns.feedforward.occupancy import OccupancyPrediction, occupancy, prompt_probabilities
from ag2_ns.io.occ3d import COLOURS
from ag2_ns.io.surround import Record
from ag2_ns.ops.voxels import VoxelGrid
from ag2_ns.plugin.surround_datamanager import SurroundDataManager, SurroundDataManagerConfig
from ag2_ns.plugin.views import view_of
from ag2_ns.rendering.choose import RasterizerName, choose_rasterizer

SEGMENTS = 26
"""Classes of the masks that GaussTR takes from Grounded SAM 2, 0 for none."""


@dataclass
class GaussTRModelConfig(ModelConfig):
    """GaussTR."""

    _target: type = field(default_factory=lambda: GaussTRModel)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    occupancy: OccupancyConfig = field(default_factory=OccupancyConfig)
    rasterizer: RasterizerName = "auto"
    """gsplat on CUDA, compiled loops on the CPU."""
    enable_collider: bool = False


class GaussTRModel(Model):
    """Predicts Gaussians of whole frames."""

    config: GaussTRModelConfig

    def populate_modules(self) -> None:
        """Build the network for the features at hand."""
        super().populate_modules()
        known, loss = self.kwargs["metadata"]["about"](), self.config.loss
        texts = known["texts"]
        self.grid: VoxelGrid = known["grid"]
        self.prompts: tuple[str, ...] = texts.names
        self.network = GaussTR(self.config.network, known["channels"])
        axes = known["axes"](loss.channels, loss.centred)
        self.register_buffer("axes", axes.contiguous())
        self.weight: Tensor | None = None
        """Of each prompt along rays."""
        if loss.rays and loss.balance:
            self.weight = rarity(known["patches"](), texts.features, texts.classes, loss.balance)
        self.register_buffer("texts", texts.features.float())
        self.register_buffer("prompt_class", texts.classes)
        self.segmenter = mlp(axes.shape[1], 512, SEGMENTS) if loss.segment else None
        self.shown: Predicted | None = None
        """What pictures for the viewer are made of: the frame predicted last."""

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """One group."""
        parts = [self.network] + ([self.segmenter] if self.segmenter is not None else [])
        return {"network": [p for part in parts for p in part.parameters()]}

    def get_outputs(self, ray_bundle: Batch) -> dict[str, Any]:
        """Gaussians after each layer."""
        out = {"layers": self.network(ray_bundle), "batch": ray_bundle}
        if self.segmenter is not None:  # used after this pass; without a part in it, several GPUs would not agree
            out["segmenter"] = sum(p.sum() for p in self.segmenter.parameters()) * 0
        return out

    def get_loss_dict(self, outputs: dict, batch: dict, metrics_dict: dict | None = None) -> dict[str, Tensor]:
        """The objective."""
        frames: Batch = outputs["batch"]
        loss = self.config.loss
        axes = self.axes
        if loss.basis == "step":
            axes = step_axes(frames.features.movedim(2, -1).flatten(0, 3), loss.channels)
        losses = objective(
            outputs["layers"], frames, axes, loss, choose_rasterizer(self.config.rasterizer, frames.depth.device),
            batch.get("rays"), self.grid, batch.get("segments"), self.segmenter,
            None if self.weight is None else self._weigh,
        )  # fmt: skip
        if "segmenter" in outputs:
            losses["segment"] = losses.get("segment", 0.0) + outputs["segmenter"]
        return losses

    def _weigh(self, features: Tensor) -> Tensor:
        """How much voxels count along rays."""
        return self.weight.to(features)[nearest(features, self.texts)]

    def get_metrics_dict(self, outputs: dict, batch: dict) -> dict[str, Tensor]:
        """How opaque and how large the Gaussians are."""
        last: Predicted = outputs["layers"][-1]
        return {"opacity": last.opacities.detach().mean(), "scale": last.scales.detach().median()}

    @torch.no_grad()
    def predict(self, batch: Batch) -> Predicted:
        """The Gaussians of frames."""
        training = self.training
        self.eval()
        self.shown = self.network(batch)[-1]
        self.train(training)
        return self.shown

    def occupancy(self, predicted: Predicted, index: int = 0, grid: VoxelGrid | None = None) -> OccupancyPrediction:
        """Classes of voxels of one frame."""
        return occupancy(
            predicted.gaussians(index), predicted.features[index], self.texts, self.prompt_class,
            grid or self.grid, self.config.occupancy,
        )  # fmt: skip

    def class_colours(self, predicted: Predicted, index: int = 0) -> Tensor:
        """RGB 0 .. 1 of each Gaussian: that of its likeliest class."""
        likely = prompt_probabilities(predicted.features[index], self.texts, self.config.occupancy).argmax(-1)
        return torch.from_numpy(COLOURS).to(likely.device)[self.prompt_class[likely]].float() / 255

    @torch.no_grad()
    def get_outputs_for_camera(self, camera: Cameras, obb_box: Any = None) -> dict[str, Tensor]:
        """The frame predicted last, in the colours of its classes, for nerfstudio's viewer."""
        view = view_of(camera.to(self.device))
        if self.shown is None:
            empty = torch.zeros(view.height, view.width, 3, device=self.device)
            return {"rgb": empty, "depth": empty[..., :1], "accumulation": empty[..., :1]}
        g, colours = self.shown.gaussians(0), self.class_colours(self.shown)
        z = g.means @ view.viewmat[2, :3] + view.viewmat[2, 3]
        drawn = choose_rasterizer(self.config.rasterizer, self.device).rasterize(
            g.means, g.quats, g.scales, g.opacities.clamp(1e-6, 1 - 1e-6), torch.cat((colours, z[:, None]), 1), view
        )
        depth = drawn.values[..., 3:] / drawn.alpha.clamp_min(1e-6)
        return {"rgb": drawn.values[..., :3], "depth": depth, "accumulation": drawn.alpha}

    def get_image_metrics_and_images(self, outputs: dict, batch: dict) -> tuple[dict, dict]:
        """Not by camera: see the pipeline."""
        raise NotImplementedError

    def load_state_dict(self, state_dict: Mapping[str, Any], **kwargs: Any) -> Any:  # type: ignore[override]
        """Load a checkpoint.

        Raises:
            UserError: it belongs to another network, or the features of these drives have another width.
        """
        own = self.state_dict()
        for name, value in own.items():
            if name not in state_dict:
                raise UserError(f"the checkpoint lacks '{name}': it was made by another method or version; train again")
            if name in ("texts", "prompt_class") and state_dict[name].shape[1:] == value.shape[1:]:
                state_dict = {**state_dict, name: value}  # the prompts at hand count, however many
            elif state_dict[name].shape != value.shape:
                raise UserError(
                    f"the checkpoint's '{name}' is {tuple(state_dict[name].shape)}, here it would be "
                    f"{tuple(value.shape)}: features of another encoder, or another network; give the run its own data"
                )
        return super().load_state_dict(state_dict, **kwargs)


@dataclass
class GaussTRPipelineConfig(VanillaPipelineConfig):
    """Frames in, occupancy measured."""

    _target: type = field(default_factory=lambda: GaussTRPipeline)
    datamanager: SurroundDataManagerConfig = field(default_factory=SurroundDataManagerConfig)
    model: GaussTRModelConfig = field(default_factory=GaussTRModelConfig)


class GaussTRPipeline(VanillaPipeline):
    """nerfstudio's pipeline over frames; evaluation is IoU and both mean IoUs over all frames together."""

    config: GaussTRPipelineConfig
    datamanager: SurroundDataManager

    def __init__(self, config: GaussTRPipelineConfig, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        if config.model.loss.rays:
            self.datamanager.rays = config.model.loss

    def _complete(self, found: tuple[Batch, dict]) -> tuple[Batch, dict]:
        batch, extra = found
        if self.config.model.loss.segment:
            extra["segments"] = self.datamanager.segments(extra["records"])
        return batch, extra

    def get_train_loss_dict(self, step: int) -> tuple[Any, dict, dict]:
        """Losses of a step."""
        return self._losses(self._complete(self.datamanager.next_train(step)), self._model)

    def get_eval_loss_dict(self, step: int) -> tuple[Any, dict, dict]:
        """Losses of a frame to evaluate."""
        self.eval()
        with torch.no_grad():
            out = self._losses(self._complete(self.datamanager.next_eval(step)), self.model)
        self.train()
        return out

    def _losses(self, found: tuple[Batch, dict], model: nn.Module) -> tuple[Any, dict, dict]:
        batch, extra = found
        outputs = model(batch)
        metrics = self.model.get_metrics_dict(outputs, extra)
        return outputs, self.model.get_loss_dict(outputs, extra, metrics), metrics

    def predict(self, record: Record) -> Predicted:
        """The Gaussians of a frame."""
        return self.model.predict(self.datamanager.batch([record])[0])

    def get_eval_image_metrics_and_images(self, step: int) -> tuple[dict, dict]:
        """Scores of one frame, and its prediction from above beside the truth."""
        from ag2_ns.rendering.occupancy import from_above

        batch, extra = self.datamanager.next_eval_image(step)
        record = extra["records"][0]
        found = self.model.occupancy(self.model.predict(batch)).semantics.cpu().numpy()
        images, metrics = {"above": torch.from_numpy(from_above(found, scale=2)).float() / 255}, {}
        truth = record.labels()
        if truth is not None:
            metrics = _numbers(score(found, truth))
            images["truth"] = torch.from_numpy(from_above(truth.semantics, scale=2)).float() / 255
        return metrics | {"num_rays": self.datamanager.get_eval_rays_per_batch()}, images

    def evaluate(self, records: Iterable[Record]) -> tuple[OccupancyScore, float]:
        """Scores over frames with labels, and mean seconds per frame, reading not counted."""
        records = [r for r in records if r.label() is not None]
        if not records:
            raise UserError(
                f"{self.datamanager.config.data}: no labels to evaluate with; add gts/SCENE/TOKEN/labels.npz"
            )
        result, seconds = OccupancyScore.none(), 0.0
        with view_progress(len(records), "frames") as done:
            for k, record in enumerate(records):
                truth = record.labels()
                batch, _ = self.datamanager.batch([record])
                start = time.perf_counter()
                found = self.model.occupancy(self.model.predict(batch), 0, truth.grid).semantics.cpu().numpy()
                seconds += time.perf_counter() - start
                result = result + score(found, truth)
                done(k + 1)
        return result, seconds / len(records)

    def get_average_eval_image_metrics(
        self, step: int | None = None, output_path: Path | None = None, get_std: bool = False
    ) -> dict[str, float]:
        """IoU, both mean IoUs and class IoUs in per cent, over all frames together."""
        rays, self.datamanager.rays = self.datamanager.rays, None
        try:
            result, seconds = self.evaluate(self.datamanager.eval_frames)
            if output_path is not None:
                self._pictures(output_path)
        finally:
            self.datamanager.rays = rays
        self.train()
        return _numbers(result) | {"frames": float(len(self.datamanager.eval_frames)), "seconds_per_frame": seconds}

    def _pictures(self, folder: Path) -> None:
        from ag2_ns.io.atomic import write_png
        from ag2_ns.rendering.occupancy import sheet

        for record in self.datamanager.eval_frames:
            found = self.model.occupancy(self.predict(record)).semantics.cpu().numpy()
            write_png(folder / f"{record.drive}-{record.token}.png", sheet(record, found, record.labels()))


def _numbers(result: OccupancyScore) -> dict[str, float]:
    """Scores as nerfstudio logs them."""
    content = result.as_dict()
    classes = {f"iou_{k.replace(' ', '_')}": v for k, v in content["classes"].items() if v is not None}
    return {k: float(content[k]) for k in ("iou", "miou17", "miou15")} | classes
