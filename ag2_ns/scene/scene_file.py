"""`scene.safetensors`: one scene in one file, which opens without nerfstudio, pictures or optimizer state.

Tensors lie under `gaussians.*`, `anchors.*`, `index.*`, `language_field.*`, `facts.*`, `views.*`; everything else is
JSON in the header's metadata under `scene`, with the schema's version. Parts that a writer did not have are left out,
and names that a reader does not know are ignored, so a new tensor never refuses an old file. Positions in the world are
kept in double precision.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ag2_ns.core.errors import DamagedFile, MissingFile, UserError, first_line
from ag2_ns.core.gaussians import Gaussians
from ag2_ns.core.view import NamedView, View
from ag2_ns.io.atomic import replacing
from ag2_ns.language.field import LanguageField
from ag2_ns.language.text_encoder import TextEncoder
from ag2_ns.language.vocabulary import Vocabulary
from ag2_ns.ops.device import choose_device
from ag2_ns.ops.similarity import Similarity
from ag2_ns.scene.geometry import Facts, GeometryConfig
from ag2_ns.scene.scene import Scene, Source, WorldFrame
from ag2_ns.scene.scene_index import SceneIndex
from ag2_ns.splat.anchors import Anchors

FILE_NAME = "scene.safetensors"
"""Beside config.yml."""

SCHEMA = 1
"""Raised when a reader of before would misunderstand a file, not when something is added."""

AGAIN = "train again, or make it with `ag2 lift`"


def scene_path(path: Path) -> Path:
    """The scene file that somebody means by the file itself, its run's folder or the run's config.yml."""
    path = Path(path)
    if path.is_dir():
        return path / FILE_NAME
    return path.with_name(FILE_NAME) if path.suffix in (".yml", ".yaml") else path


def save_scene(path: Path, scene: Scene) -> None:
    """Write a scene, atomically: a kill leaves the file of before.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {name: t.detach().cpu().contiguous() for name, t in _tensors(scene).items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"scene": json.dumps(_header(scene))})


def open_scene(path: Path, device: torch.device | str | None = None) -> Scene:
    """Read a scene.

    Args:
        path: the file, or the run's folder or config.yml beside it.
        device: where its tensors go; by default CUDA where torch sees it.

    Raises:
        MissingFile: there is none.
        DamagedFile: truncated, no scene, or of a newer version.
        UserError: `device` is CUDA and torch sees none.
    """
    from safetensors import SafetensorError, safe_open

    file = scene_path(path)
    _require(file, Path(path))
    target = torch.device(choose_device("auto" if device is None else str(device)))
    with _one_line(file, SafetensorError), safe_open(file, "pt", device=str(target)) as content:
        header = json.loads((content.metadata() or {})["scene"])
        if header["schema"] > SCHEMA:
            raise DamagedFile(
                f"{file}: written by a newer ag2-ns (schema {header['schema']}, this one reads {SCHEMA}); update ag2-ns"
            )
        return _scene({name: content.get_tensor(name) for name in content.keys()}, header, file, target)  # noqa: SIM118


def read_language_field(file: Path, device: torch.device | str) -> LanguageField | None:
    """The language field of a scene file alone; None where it has none.

    Raises:
        DamagedFile: truncated, or no scene.
    """
    from safetensors import SafetensorError, safe_open

    with _one_line(file, SafetensorError), safe_open(file, "pt", device=str(device)) as content:
        header = json.loads((content.metadata() or {})["scene"])
        names = [k for k in content.keys() if k.startswith("language_field.")]  # noqa: SIM118
        tensors = {name.removeprefix("language_field."): content.get_tensor(name) for name in names}
        return _language_field(tensors, header)


def read_vocabulary(file: Path, num_nodes: int) -> Vocabulary | None:
    """The names in a scene file alone; None where it has none, or those of a tree of another size.

    Raises:
        DamagedFile: truncated, or no scene.
    """
    from safetensors import SafetensorError, safe_open

    with _one_line(file, SafetensorError), safe_open(file, "pt", device="cpu") as content:
        known = json.loads((content.metadata() or {})["scene"]).get("vocabulary")
        if known is None:
            return None
        vectors = content.get_tensor("vocabulary.vectors") if "vocabulary.vectors" in content.keys() else None  # noqa: SIM118
        found = Vocabulary.from_json(known, vectors)
        return found if len(found.node_word) == num_nodes else None


def _require(file: Path, asked: Path) -> None:
    """Refuse a place where no scene lies."""
    if file.is_file():
        return
    folder = file.parent
    if file.suffix not in (".safetensors", "") and file.name != FILE_NAME:
        raise MissingFile(f"{asked}: no such file; give a run's config.yml, its folder or its {FILE_NAME}")
    if (folder / "config.yml").is_file():
        raise MissingFile(f"{file}: no such file; the run has not ended, or is of before there were any: {AGAIN}")
    raise MissingFile(f"{asked}: no scene there; give a run's config.yml, its folder or its {FILE_NAME}")


@contextmanager
def _one_line(file: Path, damage: type[Exception]):
    """What a damaged file raises, as one line."""
    try:
        yield
    except UserError:
        raise
    except damage as error:
        raise DamagedFile(f"{file}: truncated or not a safetensors file ({first_line(error)}); {AGAIN}") from error
    except (KeyError, ValueError, TypeError, AttributeError, struct.error, RuntimeError) as error:
        raise DamagedFile(f"{file}: not a scene of ag2-ns ({first_line(error)}); {AGAIN}") from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror or error}); change its permissions") from error


# Writing.


def _tensors(scene: Scene) -> dict[str, Tensor]:
    out = {f"gaussians.{f.name}": getattr(scene.gaussians, f.name) for f in fields(Gaussians)}
    out |= {f"anchors.{f.name}": getattr(scene.anchors, f.name) for f in fields(Anchors)}
    out["anchors.of_gaussian"] = scene.gaussian_anchor
    if scene.background is not None:
        out["background"] = scene.background
    if scene.index is not None:
        out |= {f"index.{name}": tensor for name, tensor in scene.index.to_dict().items()}
    if scene.language_field is not None:
        out |= {f"language_field.{name}": tensor for name, tensor in scene.language_field.to_dict().items()}
    if scene.facts is not None:
        out |= {f"facts.{name}": tensor for name, tensor in scene.facts.to_dict().items()}
    if scene.views:
        out["views.viewmat"] = torch.stack([v.view.viewmat for v in scene.views])
        out["views.K"] = torch.stack([v.view.K for v in scene.views])
    if scene.vocabulary is not None:
        out["vocabulary.vectors"] = scene.vocabulary.vectors
    # Two names of one tensor, or a tensor that is a view of another, cannot be written as they are.
    seen: set[int] = set()
    for name, tensor in out.items():
        if tensor.data_ptr() in seen or not tensor.is_contiguous():
            out[name] = tensor.detach().clone(memory_format=torch.contiguous_format)
        seen.add(tensor.data_ptr())
    return out


def _header(scene: Scene) -> dict[str, Any]:
    frame, source, views = scene.frame, scene.source, scene.views
    cameras = [{"name": v.name, "key": v.key, "split": v.split, "size": [v.view.width, v.view.height]} for v in views]
    header: dict[str, Any] = {
        "schema": SCHEMA,
        "extent": scene.extent,
        "sh_degree": scene.sh_degree,
        "rasterizer": scene.rasterizer_name,
        "views": cameras,
        "settings": dict(scene.settings),
        "provenance": dict(scene.provenance),
    }
    if scene.vocabulary is not None:
        header["vocabulary"] = scene.vocabulary.to_json()
    if scene.language_field is not None:
        known = scene.language_field
        header["language_field"] = {"spread": known.spread, "per_gaussian": known.per_gaussian}
    if scene.facts is not None:
        header["facts"] = asdict(scene.facts.config)
    if source is not None:
        header["source"] = {"data": str(source.data), "downscale": source.downscale}
    if frame is not None:
        to_world, numbers = frame.to_world, {"offset": list(frame.offset)}
        numbers |= {name: getattr(to_world, name).tolist() for name in ("rotation", "translation")}
        header["frame"] = numbers | {"scale": to_world.scale}
    return header


# Reading.


def _scene(tensors: Mapping[str, Tensor], header: dict[str, Any], file: Path, device: torch.device) -> Scene:
    def part(name: str) -> dict[str, Tensor]:
        return {key.removeprefix(f"{name}."): t for key, t in tensors.items() if key.startswith(f"{name}.")}

    anchors, index = part("anchors"), part("index")
    known = header.get("source")
    source = None if known is None else Source(Path(known["data"]), float(known["downscale"]))
    if "encoder" in index:
        index["encoder"] = index["encoder"].cpu()  # bytes, which only the host reads
    found = SceneIndex.from_dict(index) if index else None
    texts = None
    if source is not None:
        made_by = None if found is None else found.encoder
        texts = TextEncoder(source.data, source.downscale, device.type, lambda: made_by)
    degree = header.get("sh_degree")
    return Scene(
        Gaussians(**{f.name: tensors[f"gaussians.{f.name}"] for f in fields(Gaussians)}),
        Anchors(**{f.name: anchors[f.name] for f in fields(Anchors)}),
        anchors["of_gaussian"],
        float(header["extent"]),
        found,
        _views(part("views"), header.get("views", [])),
        tensors.get("background"),
        None if degree is None else int(degree),
        source,
        _frame(header.get("frame")),
        header.get("settings") or {},
        header.get("provenance") or {},
        file,
        header.get("rasterizer", "auto") if device.type != "cpu" else "auto",
        texts,
        _vocabulary(header.get("vocabulary"), tensors.get("vocabulary.vectors"), found),
        _language_field(part("language_field"), header),
        _facts(part("facts"), header),
    )


def _facts(tensors: Mapping[str, Tensor], header: dict[str, Any]) -> Facts | None:
    """The facts; None where there are none, or where they were found with thresholds that this version lacks."""
    try:
        return Facts.from_dict(tensors, GeometryConfig(**header["facts"])) if tensors else None
    except (KeyError, TypeError):
        return None


def _language_field(tensors: Mapping[str, Tensor], header: dict[str, Any]) -> LanguageField | None:
    about = header.get("language_field")
    if not tensors or about is None:
        return None
    return LanguageField.from_dict(tensors, float(about["spread"]), bool(about["per_gaussian"]))


def _views(tensors: Mapping[str, Tensor], known: list[dict[str, Any]]) -> tuple[NamedView, ...]:
    return tuple(
        NamedView(v["name"], v["key"], v["split"], View(viewmat, K, *map(int, v["size"])))
        for v, viewmat, K in zip(known, tensors.get("viewmat", ()), tensors.get("K", ()))
    )


def _vocabulary(known: str | None, vectors: Tensor | None, index: SceneIndex | None) -> Vocabulary | None:
    """The names; None where there are none, or where they are of another version or of other instances."""
    if known is None or index is None:
        return None
    try:
        found = Vocabulary.from_json(known, vectors)
    except DamagedFile:
        return None
    return found if len(found.node_word) == index.tree.num_nodes else None


def _frame(known: dict[str, Any] | None) -> WorldFrame | None:
    if known is None:
        return None
    double = lambda values: torch.tensor(values, dtype=torch.double)  # noqa: E731
    to_world = Similarity(double(known["rotation"]), float(known["scale"]), double(known["translation"]))
    x, y, z = (float(v) for v in known.get("offset", (0.0, 0.0, 0.0)))
    return WorldFrame(to_world, (x, y, z))
