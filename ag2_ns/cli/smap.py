"""`ag2 smap`: train the point captioner, and name the sectors of a cloud by it."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

import tyro

from ag2_ns.core.errors import UserError


@dataclass
class Smap:
    """Train SMAP on samples, or say what the sectors of a cloud show, by points alone.

    A sample is a .npz of xyz, feature, masks and target (`ag2_ns.feedforward.smap_train.write_sample`): points with
    features, the points that each camera sees, and the image-text vector of its picture. `ag2 smap simulate DIR` writes
    some of simulated streets; `train DIR` trains; `name CLOUD` names.
    """

    action: tyro.conf.Positional[Literal["simulate", "train", "name"]]
    """What to do."""
    path: tyro.conf.Positional[Path]
    """Folder of samples (simulate, train), or a cloud or sample (name)."""
    _: KW_ONLY
    output_dir: Path = Path("smap")
    """Where model, checkpoints and captions go."""
    model: Path = Path("smap")
    """The model that names: its file or folder."""
    features: Path | None = None
    """Of the cloud's points: .npy or OpenScene's .pt (name)."""
    texts: Path | None = None
    """JSON of text to vector: the words that sectors are named by; default: those of simulated streets (name)."""
    regions: Literal["sectors", "pillars"] = "sectors"
    """Twelve sectors around the sensor, or pillars of a floor (name)."""
    count: int = 48
    """Streets to simulate."""
    seed: int = 0
    """Of the first street."""
    steps: int = 600
    """Training steps."""
    batch: int = 4
    """Samples per step."""
    lr: float = 3e-3
    """Learning rate; published 1e-4 for a million points per sample."""
    dim: int = 64
    """Width inside; published 512."""
    heads: int = 8
    """Of the attention."""
    voxel: float = 0.3
    """Edge of voxels, metres; published 0.05."""
    published: bool = False
    """Give padded points the weight that the published code gives them."""
    resume: bool = False
    """Go on from the last checkpoint in --output-dir."""
    device: Literal["auto", "cuda", "cpu"] = "auto"
    """Where to work."""

    def main(self) -> None:
        """Do it."""
        {"simulate": self._simulate, "train": self._train, "name": self._name}[self.action]()

    def _simulate(self) -> None:
        import torch

        from ag2_ns.core.console import console
        from ag2_ns.feedforward.smap_train import SmapSample, write_sample
        from ag2_ns.synthetic import point_streets

        if self.count < 1:
            raise UserError(f"--count {self.count}: give a number from 1")
        for seed in range(self.seed, self.seed + self.count):
            street = point_streets.make(seed)
            parts = (street.xyz, street.feature, street.cameras, street.vectors)
            write_sample(self.path / f"street_{seed:05d}.npz", SmapSample(*map(torch.from_numpy, parts)))
        console().print(f"{self.count} streets: {self.path}")

    def _train(self) -> None:
        from rich.progress import Progress

        from ag2_ns.core.console import command_line, console
        from ag2_ns.feedforward.smap import SmapConfig
        from ag2_ns.feedforward.smap_train import SmapTrainConfig, read_sample, train_smap
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.ops.device import choose_device

        files = sorted(self.path.glob("*.npz"))
        if not files:
            raise UserError(f"{self.path}: no samples (.npz) there; write some, or make some with `ag2 smap simulate`")
        require_writable(self.output_dir)
        first = read_sample(files[0])
        sizes = {
            "in_dim": first.feature.shape[1],
            "out_dim": first.target.shape[1],
            "dim": self.dim,
            "heads": self.heads,
        }
        config = SmapConfig(voxel=self.voxel, published=self.published, **sizes)
        schedule = SmapTrainConfig(steps=self.steps, batch=self.batch, lr=self.lr)
        out, last = console(), [0.0]
        with Progress(console=out, transient=True) as bar:
            task = bar.add_task("training", total=self.steps)

            def progress(done: int, loss: float) -> None:
                last[0] = loss
                bar.update(task, completed=done, description=f"training, loss {loss:.4f}")

            options = {"folder": self.output_dir, "device": choose_device(self.device), "resume": self.resume}
            train_smap(files, config, schedule, progress=progress, **options)
        out.print(f"{len(files)} samples, {self.steps} steps, loss {last[0]:.4f}")
        out.print(f"model      {self.output_dir}")
        out.print(f"name       {command_line('ag2', 'smap', 'name', files[0], '--model', self.output_dir)}")

    def _name(self) -> None:
        import torch

        from ag2_ns.core.console import console
        from ag2_ns.feedforward.decode import words_in
        from ag2_ns.feedforward.smap import pillar_masks, sector_masks
        from ag2_ns.feedforward.smap_train import load_smap
        from ag2_ns.io.atomic import write_atomic

        model = load_smap(self.model)
        xyz, feature = self._points()
        masks = sector_masks(xyz) if self.regions == "sectors" else pillar_masks(xyz)
        with torch.no_grad():
            vectors = model(feature, xyz, masks)
        words, texts = self._texts(vectors.shape[1])
        found = words_in(vectors, words, texts)
        kind = self.regions[:-1]
        content = {self.path.stem: {f"{kind}_{k}": {w: round(s, 4) for w, s in f} for k, f in enumerate(found)}}
        write_atomic(self.output_dir / "captions.json", (json.dumps(content, indent=1) + "\n").encode())
        out = console()
        for k, (said, size) in enumerate(zip(found, masks.sum(1).tolist())):
            out.print(f"{kind} {k:2d}  {size:6,} points  {', '.join(w for w, _ in said) or '(nothing)'}")
        out.print(f"captions   {self.output_dir / 'captions.json'}")

    def _points(self):
        """Positions and features of the cloud to name."""
        import numpy as np
        import torch

        from ag2_ns.feedforward.smap_train import read_sample
        from ag2_ns.io.points import load_arrays, read_cloud

        if self.features is None:
            if self.path.suffix != ".npz":
                raise UserError(f"{self.path}: a cloud needs features of its points; name their file with --features")
            sample = read_sample(self.path)
            return sample.xyz, sample.feature
        cloud = read_cloud(self.path)
        kept = np.ones(len(cloud), bool) if cloud.kept is None else cloud.kept
        content = (
            np.load(self.features, allow_pickle=False) if self.features.suffix == ".npy" else load_arrays(self.features)
        )
        if isinstance(content, dict) and {"feat", "mask_full"} <= set(
            content
        ):  # OpenScene: of the points that have one
            full = np.asarray(content["mask_full"], bool)[kept]
            if int(full.sum()) != len(content["feat"]):
                raise UserError(f"{self.features}: {len(content['feat'])} features for {int(full.sum())} points")
            return torch.from_numpy(cloud.xyz[full]), torch.from_numpy(np.asarray(content["feat"])).float()
        content = np.asarray(content)
        if content.ndim != 2 or len(content) != len(kept):
            raise UserError(
                f"{self.features}: shape {content.shape} for {len(kept)} points; one row per point is needed"
            )
        return torch.from_numpy(cloud.xyz), torch.from_numpy(content[kept]).float()

    def _texts(self, width: int):
        """The words to name by, and their vectors."""
        import torch

        from ag2_ns.perception.table import TableEncoder

        if self.texts is not None:
            encoder = TableEncoder(texts=self.texts)
            words = encoder.known_texts()
            return words, encoder.encode_text(words)
        from ag2_ns.synthetic.point_streets import CLASSES, class_vectors

        return list(CLASSES), torch.from_numpy(class_vectors(width)).float()
