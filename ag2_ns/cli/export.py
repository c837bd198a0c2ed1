"""`ag2 export`: what texts, clicks, a box or a file select, and the rest, as splats, anchors, boxes and hulls."""

from __future__ import annotations

import itertools
import re
from contextlib import nullcontext
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from ag2_ns.cli.picking import SOURCES, Picking
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from ag2_ns.core.selection import Selection
    from ag2_ns.edit.apply import EditedScene
    from ag2_ns.edit.operations import Edit
    from ag2_ns.export.boxes import Box
    from ag2_ns.export.splat import Instance, Labelled
    from ag2_ns.ops.similarity import Similarity
    from ag2_ns.plugin.run import LoadedRun
    from ag2_ns.scene.scene_index import SceneIndex

Format = Literal["splat", "anchors", "boxes", "hulls"]
Written = list[tuple[Path, str]]
"""Files, and a few words on each."""


@dataclass
class Export(Picking):
    """Write pieces of a run for other programs, edits included.

    labels.json says for every instance what it is called, how large it is and where. What an earlier export left in the
    folder is removed.
    """

    output_dir: Path
    """Where the files go."""
    _: KW_ONLY
    text: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A piece in words; may be given several times."""
    all: bool = False
    """The whole scene, nothing selected."""
    level: float | None = None
    """Granularity of pieces and instances, from 0 (parts) to 1 (groups); by default texts look at all levels and
    everything else at the level of objects, 0.5."""
    format: tuple[Format, ...] = ("splat", "boxes")
    """splat: 3D Gaussian Splatting .ply of each piece and of the rest. anchors: point cloud with graph and features.
    boxes, hulls: .glb of one solid per instance."""
    box_shape: Literal["box", "upright", "oriented"] = "upright"
    """Boxes along the axes, turned about the vertical, or turned freely."""
    world: bool = False
    """In the frame that the cameras were given in (that of COLMAP), not the run's."""
    vocabulary: tuple[str, ...] = ()
    """Words that name the instances that are not selected."""
    edits: bool = True
    """Apply the run's edits."""

    def main(self) -> None:
        """Export."""
        import torch

        from ag2_ns.cli.output import console, require_writable
        from ag2_ns.export.frame import run_to_world
        from ag2_ns.export.previous_files import earlier_files
        from ag2_ns.export.splat import label_edited, label_scene, subset, writable, write_labels
        from ag2_ns.ops.similarity import Similarity
        from ag2_ns.plugin.run import load_run

        self._check()
        require_writable(self.output_dir)
        run = load_run(self.load_config)
        index = run.require_index()
        frame = run_to_world(run.config_path) if self.world else Similarity.identity()
        level = 0.5 if self.level is None else self.level
        earlier = earlier_files(self.output_dir / "labels.json")
        with torch.no_grad(), nullcontext() if self.edits else run.as_trained():
            selections, scene, edits = self._selections(run), run.scene, run.edits
            trained = label_scene(index, selections, level, self._names(run, index, level))
            labelled = label_edited(trained, scene)
            pieces = self._pieces(scene, selections)
            shown = set(labelled.present())
            if pieces:
                union = torch.stack(list(pieces.values())).any(0)
                shown = set(subset(labelled, union).present())
            written = self._splats(scene, labelled, pieces, frame) if "splat" in self.format else []
            if "anchors" in self.format:
                written += self._anchors(run, trained, selections, frame, edits)
            solids, boxes = self._solids(scene, labelled, shown, frame)
            written += solids
            path = self.output_dir / "labels.json"
            files = [p.name for p, _ in written]
            gone = [p for p in earlier if p.name not in files]
            for old in gone:
                with writable(old):
                    old.unlink(missing_ok=True)
            write_labels(path, labelled, scene.anchor, boxes, frame="world" if self.world else "run", files=files)
        written.append((path, f"{counted(len(boxes), 'instance')}, {counted(len(labelled.labels), 'label')}"))
        out = console()
        written += [(old, "removed, of an earlier export") for old in gone]
        for path, what in written:
            out.print(f"{path}  {what}")

    def _check(self) -> None:
        self.check_picking()
        if bool(self.sources()) == self.all:
            raise UserError(
                f"give pieces with {SOURCES}"
                + (", or the whole scene with --all, not both" if self.all else "; or the whole scene with --all")
            )
        if not self.format:
            raise UserError("--format: name at least one of splat, anchors, boxes and hulls")

    def _selections(self, run: LoadedRun) -> list[Selection]:
        found = self.picked(run)
        for selection in found:
            if selection.empty:
                raise UserError(f"{selection.label}: nothing found ({selection.reason}); try other words or a click")
        return found

    def _names(self, run: LoadedRun, index: SceneIndex, level: float) -> dict[int, Instance]:
        """Labels from the vocabulary for the instances of a level."""
        if not self.vocabulary:
            return {}
        import torch

        from ag2_ns.export.splat import name_instances

        device = index.anchor_xyz.device
        texts = torch.stack([run.texts.embed(t) for t in self.vocabulary]).to(device)
        negatives = run.texts.negatives()
        return name_instances(index, self.vocabulary, texts, None if negatives is None else negatives.to(device), level)

    def _splats(self, scene: EditedScene, labelled: Labelled, pieces: dict[str, Tensor], frame: Similarity) -> Written:
        import torch

        from ag2_ns.export.splat import subset, write_splat

        rest = torch.ones(len(scene), dtype=torch.bool, device=scene.source.device)
        for mask in pieces.values():
            rest &= ~mask
        files = {f"{name}.ply": mask for name, mask in pieces.items()}
        if bool(rest.any()):
            files["rest.ply" if pieces else "scene.ply"] = rest
        written = []
        for name, mask in files.items():
            write_splat(self.output_dir / name, frame.gaussians(scene.gaussians[mask]), subset(labelled, mask))
            written.append((self.output_dir / name, f"{int(mask.sum())} Gaussians"))
        return written

    def _pieces(self, scene: EditedScene, selections: list[Selection]) -> dict[str, Tensor]:
        """The Gaussians of each piece, by a file name."""
        out: dict[str, Tensor] = {}
        for selection in selections:
            mask = scene.selected(selection)
            if scene.removed(selection):
                raise UserError(f"{selection.label}: edits removed it; undo them, or export with --no-edits")
            name = re.sub(r"[^\w.-]+", "-", selection.label.strip().lower()).strip("-.") or "piece"
            taken = {*out, "rest", "scene", "anchors"}
            candidates = (name if k == 1 else f"{name}-{k}" for k in itertools.count(1))
            out[next(c for c in candidates if c not in taken)] = mask
        return out

    def _solids(
        self, scene: EditedScene, labelled: Labelled, shown: set[int], frame: Similarity
    ) -> tuple[Written, dict[int, Box]]:
        """Write boxes and hulls of the instances in `shown`; boxes of all instances."""
        import torch

        from ag2_ns.export.anchors import instance_colours
        from ag2_ns.export.boxes import box_of, hull_of, write_glb

        boxes, shapes, extras, colours = {}, {"boxes": {}, "hulls": {}}, {}, {}
        for number in labelled.present():
            own = scene.gaussians[labelled.instance == number]
            # Upright means upright in the run's frame, whose z is up; the world's vertical may be anywhere.
            placed = frame.gaussians(own)
            shape = self.box_shape
            boxes[number] = box_of(placed, "box") if shape == "box" else box_of(own, shape).moved(frame)
            if number not in shown:
                continue
            label = labelled.known[number].label
            name = f"{number} {label}" if label else str(number)
            shapes["boxes"][name] = boxes[number]
            if "hulls" in self.format:
                shapes["hulls"][name] = hull_of(placed)
            extras[name] = {"instance": number, "label": label}
            colours[name] = tuple(instance_colours(torch.tensor([number]))[0].tolist())
        written = []
        for kind, solids in shapes.items():
            if kind in self.format:
                write_glb(self.output_dir / f"{kind}.glb", solids, extras, colours)
                written.append((self.output_dir / f"{kind}.glb", counted(len(solids), "instance")))
        return written, boxes

    def _anchors(
        self, run: LoadedRun, trained: Labelled, selections: list[Selection], frame: Similarity, edits: tuple[Edit, ...]
    ) -> Written:
        import torch

        from ag2_ns.export.anchors import (
            AnchorCloud,
            anchor_instances,
            edited_anchors,
            instance_colours,
            write_anchor_cloud,
        )

        index = run.require_index()
        instance = anchor_instances(trained.instance, index.gaussian_anchor, index.num_anchors)
        features, radius = run.model.anchor_features(), run.model.anchor_radius.reshape(-1)
        cloud = AnchorCloud(index.anchor_xyz, radius, features, instance, index.edges)
        chosen = None
        if selections:
            chosen = torch.stack([s.anchor_mask for s in selections]).any(0)
        cloud = edited_anchors(cloud, index.gaussian_anchor, edits, trained.next, chosen).moved(frame)
        path = self.output_dir / "anchors.ply"
        write_anchor_cloud(path, cloud, instance_colours(cloud.instance))
        return [(path, f"{len(cloud.xyz)} anchors, {cloud.edges.shape[1]} edges")]


def counted(number: int, what: str) -> str:
    """`1 label`, `2 labels`."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
