"""Sentences with what they mean, on disk: the table-top's sentences.json with amodal masks, and Ref-LERF.

Ref-LERF (ReferSplat, Zheng et al., ICML 2025): four LERF scenes, 59 objects, about five sentences each. A scene's
folder holds `json/{train_json,test_json}/frame_NNNNN.json` (older: `json/`) with
{"object": [{"category", "segmentation": mask file, "sentence": [...]}]}, and masks as black-and-white pictures in
`gt_mask/` (all frames) or `mask/` (test frames only), named after frame and category.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from PIL import Image

from ag2_ns.core.errors import DamagedFile, MissingFile, UserError
from ag2_ns.io.atomic import write_atomic

TEST_FRAMES = {
    "ramen": (6, 24, 60, 65, 81, 119, 128),
    "figurines": (83, 97, 146, 179),
    "teatime": (2, 25, 43, 107, 129, 140),
    "waldo_kitchen": (19, 35, 67, 105, 162),
}
"""Frames of Ref-LERF that are held out; all others are for training. For two scenes not those of LERF-OVS."""


@dataclass(frozen=True)
class ReferringSentence:
    """A sentence and the ids that it means."""

    text: str
    wanted: tuple[int, ...]
    """Ids; empty where nothing is meant."""
    view: str | None = None
    """The picture in which left and right are meant, without suffix."""
    kind: str = ""
    split: str = "test"
    held_out: tuple[str, ...] = ()
    """In which ways it differs from what may be trained on."""


def read_sentences(path: Path) -> list[ReferringSentence]:
    """Read sentences.json, or the one in a folder.

    Raises:
        UserError: no such file, or not one of sentences.
    """
    path = path / "sentences.json" if path.is_dir() else path
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["sentences"]
        return [
            ReferringSentence(
                str(r["text"]),
                tuple(int(i) for i in r["wanted"]),
                r.get("view"),
                str(r.get("kind", "")),
                str(r.get("split", "test")),
                tuple(r.get("held_out", ())),
            )
            for r in rows
        ]
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file; give a sentences.json, as `ag2 example` writes it") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path}: not a file of sentences ({error!r}); write it anew with `ag2 example`") from error


def write_amodal(path: Path, masks: dict[int, Bool[np.ndarray, "H W"]]) -> None:
    """Write the masks of one view by id, packed."""
    import io

    ids = sorted(masks)
    shape = masks[ids[0]].shape if ids else (0, 0)
    bits = (
        np.packbits(np.stack([masks[i] for i in ids]).reshape(len(ids), -1), axis=1)
        if ids
        else np.zeros((0, 0), np.uint8)
    )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=np.array(ids, np.int64), shape=np.array(shape, np.int64), bits=bits)
    path.write_bytes(buffer.getvalue())


def read_amodal(path: Path) -> dict[int, Bool[np.ndarray, "H W"]]:
    """The masks of one view by id.

    Raises:
        UserError: not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            height, width = (int(v) for v in file["shape"])
            flat = np.unpackbits(file["bits"], axis=1, count=height * width).astype(bool)
            return {int(i): m.reshape(height, width) for i, m in zip(file["ids"], flat)}
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file; make the scene anew with `ag2 example`") from None
    except (OSError, ValueError, KeyError) as error:
        raise DamagedFile(f"{path}: not a file of amodal masks ({error}); make the scene anew") from error


@dataclass(frozen=True)
class ReferringMask:
    """One object in one frame of Ref-LERF: its mask and the sentences about it."""

    frame: str
    """Name of the picture, without suffix."""
    category: str
    sentences: tuple[str, ...]
    mask: Path | None
    """The picture of its mask; None where the file is missing (training frames come without pseudo masks)."""
    split: str = "test"
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    def read(self) -> Bool[np.ndarray, "H W"]:
        """The mask.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        if self.mask is None:
            raise MissingFile(f"{self.frame}, {self.category!r}: no mask in gt_mask/ or mask/; put it there")
        try:
            with Image.open(self.mask) as file:
                return np.asarray(file.convert("L")) > 127
        except (OSError, SyntaxError) as error:
            raise DamagedFile(f"{self.mask}: not a readable picture ({error}); restore it") from error


def read_ref_lerf(folder: Path, scene: str | None = None) -> list[ReferringMask]:
    """Read one scene of Ref-LERF.

    Args:
        folder: of the scene.
        scene: its name, for the test frames where the folder has no train_json and test_json; by default the folder's.

    Raises:
        UserError: no annotations, or damaged ones.
    """
    root = folder / "json"
    if not root.is_dir():
        raise MissingFile(f"{root}: no such folder; a scene of Ref-LERF has json/ and gt_mask/ or mask/")
    held = set(TEST_FRAMES.get(scene or folder.name, ()))
    out = []
    for path in sorted(root.rglob("frame_*.json")):
        number = int("".join(c for c in path.stem if c.isdigit()) or -1)
        split = {"train_json": "train", "test_json": "test"}.get(
            path.parent.name, "test" if number in held else "train"
        )
        for entry in _objects(path):
            category = str(entry["category"])
            mask = _mask_file(folder, path.stem, category, str(entry.get("segmentation", "")))
            sentences = entry["sentence"]
            sentences = [sentences] if isinstance(sentences, str) else sentences
            out.append(ReferringMask(path.stem, category, tuple(str(s) for s in sentences), mask, split))
    if not out:
        raise MissingFile(f"{root}: no frame_*.json with objects in it; a scene of Ref-LERF has one per frame")
    return out


def _objects(path: Path) -> list[dict]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))["object"]
        return [e for e in content if e["category"] and e["sentence"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedFile(f"{path}: not an annotation of Ref-LERF ({error!r}); restore it") from error


def _mask_file(folder: Path, frame: str, category: str, named: str) -> Path | None:
    """The mask of an object: the file that the annotation names, else the one called after frame and category."""
    for part in ("gt_mask", "mask", "."):
        base = folder / part
        for candidate in (base / named, base / frame / Path(named).name, base / Path(named).name):
            if named and candidate.is_file():
                return candidate
        for stem in (f"{frame}/{category}", f"{frame}_{category}", f"{category}_{frame}"):
            for suffix in (".png", ".jpg"):
                if (base / f"{stem}{suffix}").is_file():
                    return base / f"{stem}{suffix}"
        for found in sorted((base / frame).glob("*.png")) if (base / frame).is_dir() else ():
            # The published loader's key: the file's name up to the first "_" or ".png".
            if found.name.split("_")[0].removesuffix(".png") == category:
                return found
    return None


def write_ref_lerf(
    folder: Path, objects: Iterable[tuple[str, str, Sequence[str], Bool[np.ndarray, "H W"]]], split: str = "test"
) -> int:
    """Write annotations and masks as Ref-LERF lays them out; returns the number of frames.

    Args:
        folder: of the scene.
        objects: frame (without suffix), category, sentences, mask. A category occurs once per frame.
        split: "train" or "test".

    Raises:
        UserError: a category twice in a frame, or a folder that cannot be written.
    """
    from ag2_ns.io.atomic import write_png

    frames: dict[str, list[dict]] = {}
    for frame, category, sentences, mask in objects:
        entries = frames.setdefault(frame, [])
        if any(e["category"] == category for e in entries):
            raise UserError(f"{frame}: the category {category!r} occurs twice; Ref-LERF has one object of each")
        name = f"gt_mask/{frame}/{category}.png"
        write_png(folder / name, mask.astype(np.uint8) * 255)
        entries.append({"category": category, "segmentation": name, "sentence": list(sentences)})
    for frame, entries in frames.items():
        content = json.dumps({"object": entries}, indent=1).encode()
        write_atomic(folder / "json" / f"{split}_json" / f"{frame}.json", content)
    return len(frames)
