"""What the mask store and the feature store share: a folder of one file per view beside the scene.

Layout, for images downscaled by k: `DATA/ag2/xk/masks/` and `DATA/ag2/xk/features/`, each with a `manifest.json`
(what made it, with which settings) and one `.npz` per view, named by the image's path. Every view file also carries
the image size and the fingerprints of the served image and of the settings, so a view is valid or refused on its
own, and a run killed at any moment leaves only whole files. What replaces a store grows in `DATA/ag2/xk/renewed/`.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ag2_ns.core.errors import UserError
from ag2_ns.io.atomic import write_atomic
from ag2_ns.io.exchange import aside, put_in_place
from ag2_ns.io.prepare_command import prepare_command

FORMAT = 2
"""Version of the files below; a store of another version is refused."""

Store = TypeVar("Store", bound="ViewStore")


GRID = 24
"""An image is remembered by the means of this many by this many blocks."""

TOLERANCE = 1.0
"""Grey levels that a block's mean may differ in: undoing a lens rounds differently from one processor to the next."""


def image_print(image: np.ndarray | Tensor) -> str:
    """A fingerprint of an image (uint8, H x W x C): its size and the means of a grid of blocks.

    Compute it on exactly the image that training serves: after undistortion and downscaling; compare with
    `same_image`.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu().numpy()
    if image.dtype != np.uint8:
        raise TypeError(f"image_print needs a uint8 image, got {image.dtype}")
    mean = image.mean(axis=2, dtype=np.float32)
    for axis, size in enumerate(image.shape[:2]):
        edges = np.linspace(0, size, min(GRID, size) + 1).astype(np.int64)
        shape = (-1, 1) if axis == 0 else (1, -1)
        mean = np.add.reduceat(mean, edges[:-1], axis=axis) / np.diff(edges).reshape(shape)
    blocks = base64.b64encode(np.round(mean * 256).astype("<u2").tobytes()).decode()
    return f"{'x'.join(map(str, image.shape))}:{blocks}"


def same_image(one: str, other: str) -> bool:
    """Whether two fingerprints are of the same image, up to `TOLERANCE`."""
    (size, _, blocks), (other_size, _, other_blocks) = one.partition(":"), other.partition(":")
    if size != other_size:
        return False
    a, b = (np.frombuffer(base64.b64decode(x), "<u2").astype(np.float32) for x in (blocks, other_blocks))
    return bool(np.abs(a - b).max(initial=0.0) <= TOLERANCE * 256)


def file_hash(path: Path) -> str:
    """A fingerprint of a (large) file: its size and 64 KiB samples, the first and last MiB among them."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=8)
    with open(path, "rb") as file:
        for start in sorted({0, max(size - (1 << 20), 0)}):
            file.seek(start)
            digest.update(file.read(1 << 20))
        for k in range(1, 16):
            file.seek(size * k // 16)
            digest.update(file.read(1 << 16))
    return digest.hexdigest()


def data_folder(data: Path) -> Path:
    """The scene's folder, where `data` is that folder or a file in it (transforms.json)."""
    data = Path(data)
    return data.parent if data.suffix == ".json" or data.is_file() else data


def view_key(image: Path | str, data: Path | str) -> str:
    """The name under which a view is stored: the image's path within the scene, without suffix.

    A leading `images` or `images_4` folder is dropped, other subfolders are kept (names may repeat in them). An image
    outside the scene's folder gets a hash of its folder as prefix.
    """
    path, folder = Path(os.path.abspath(image)), Path(os.path.abspath(data_folder(Path(data))))
    if path.is_relative_to(folder):
        parts = list(path.relative_to(folder).with_suffix("").parts)
    else:
        prefix = hashlib.blake2b(str(path.parent).encode(), digest_size=4).hexdigest()
        parts = [f"outside-{prefix}", path.stem]
    if len(parts) > 1 and re.fullmatch(r"images(_\d+)?", parts[0]):
        parts = parts[1:]
    return "/".join(parts)


def view_stem(name: Path | str) -> str:
    """The name of an image (`LoadedRun.views`) without suffix: that of its masks and ids in a folder of them."""
    return Path(name).with_suffix("").as_posix()


@dataclass(frozen=True)
class Manifest:
    """What made a store."""

    maker: str
    """Name of the segmenter or encoder, as registered."""
    settings: dict
    """Everything that changes the result (JSON); views made with other settings are stale."""
    options: dict = field(default_factory=dict)
    """Keyword arguments that build the maker again, for instance paths of checkpoints; not part of the fingerprint."""
    format: int = FORMAT

    @property
    def fingerprint(self) -> str:
        """A hash of the maker, its settings and the file format."""
        text = json.dumps([self.format, self.maker, self.settings], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def to_bytes(self) -> UInt8[Tensor, " L"]:
        """As a tensor that travels with a checkpoint."""
        return torch.frombuffer(bytearray(json.dumps(asdict(self)).encode()), dtype=torch.uint8)

    @staticmethod
    def from_bytes(content: UInt8[Tensor, " L"]) -> Manifest:
        """The inverse of `to_bytes`."""
        return Manifest(**json.loads(content.cpu().numpy().tobytes()))


class ViewStore:
    """A folder of one compressed file per view, described by a manifest. Subclasses encode the content."""

    kind: ClassVar[str]
    """Name of the subfolder."""
    replacing: ClassVar[str] = "add --overwrite to replace it"
    """How a store made with other settings is replaced."""

    def __init__(self, folder: Path, manifest: Manifest, data: Path, downscale: float = 1):
        self.folder, self.manifest = Path(folder), manifest
        self.data, self.downscale = data, downscale

    # ---------------------------------------------------------------------------------------------- opening

    @classmethod
    def exists(cls, data: Path, downscale: float = 1) -> bool:
        """Whether the scene has a store of this kind and downscale factor."""
        return (cls.locate(data, downscale) / "manifest.json").is_file()

    @classmethod
    def locate(cls, data: Path, downscale: float = 1) -> Path:
        """The store's folder: `DATA/ag2/xDOWNSCALE/KIND`; masks of images of other sizes live in other folders."""
        return data_folder(data) / "ag2" / f"x{downscale:g}" / cls.kind

    @classmethod
    def downscales(cls, data: Path) -> list[float]:
        """The downscale factors that the scene has a store of this kind for, ascending."""
        folders = (path.parent.parent for path in data_folder(data).glob(f"ag2/x*/{cls.kind}/manifest.json"))
        return sorted(float(f.name[1:]) for f in folders if re.fullmatch(r"x\d+(\.\d+)?", f.name))

    @classmethod
    def open(cls: type[Store], data: Path, downscale: float = 1) -> Store:
        """Open the store beside the scene at `data` (a folder or its transforms.json).

        Raises:
            UserError: there is none, or its manifest is damaged or of another version.
        """
        folder = cls.locate(data, downscale)
        return cls(folder, cls._manifest(folder, data, downscale), Path(data), downscale)

    @classmethod
    def _manifest(cls, folder: Path, data: Path, downscale: float) -> Manifest:
        """The manifest in a store's folder; raises as `open` does."""
        path = folder / "manifest.json"
        try:
            content = json.loads(path.read_text())
            manifest = Manifest(content["maker"], content["settings"], content.get("options", {}), content["format"])
        except FileNotFoundError:
            raise UserError(
                f"{folder}: no {cls.kind} for this scene; make them with: {cls.command_for(data, downscale)}"
            ) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path}: damaged ({error}); make it again with: {cls.command_for(data, downscale)} --overwrite"
            ) from None
        if manifest.format != FORMAT:
            raise UserError(
                f"{path}: written by another version (format {manifest.format}, this one reads {FORMAT}); "
                f"make it again with: {cls.command_for(data, downscale)} --overwrite"
            )
        return manifest

    @classmethod
    def made_by(cls, data: Path, manifest: Manifest, downscale: float = 1) -> bool:
        """Whether there is a store, made with these settings."""
        try:
            return cls.open(data, downscale).manifest.fingerprint == manifest.fingerprint
        except UserError:
            return False

    @classmethod
    def refuse_others(cls, data: Path, manifest: Manifest, downscale: float = 1) -> None:
        """Refuse a store that holds views made with other settings.

        Raises:
            UserError: it does, or its manifest is damaged.
        """
        if not cls.exists(data, downscale):
            return
        old = cls.open(data, downscale)
        if old.manifest.fingerprint != manifest.fingerprint and old.stems():
            raise UserError(
                f"{old.folder}: made by {_describe(old.manifest)}, not {_describe(manifest, old.manifest)}; "
                f"{cls.replacing}, or give the settings it was made with"
            )

    @classmethod
    def create(cls: type[Store], data: Path, manifest: Manifest, downscale: float = 1, renew: bool = False) -> Store:
        """Open the store for writing, and write its manifest if it is new.

        Args:
            data: the scene's folder.
            manifest: what makes the views.
            downscale: the downscale factor of the images.
            renew: fill a new folder beside the store in use, which stays as it is until `put_in_place`. What a run
                with the same settings left there is used.

        Raises:
            UserError: a store made with other settings is there and `renew` is not given.
        """
        folder = cls.locate(data, downscale)
        if renew:
            folder = aside(folder)
        else:
            cls.refuse_others(data, manifest, downscale)
        store = cls(folder, manifest, Path(data), downscale)
        try:
            found = cls._manifest(folder, data, downscale)
        except UserError:
            found = None
        if found == manifest:
            return store
        if renew and (found is None or found.fingerprint != manifest.fingerprint):
            shutil.rmtree(folder, ignore_errors=True)
        content = {
            "format": manifest.format,
            "kind": cls.kind,
            "maker": manifest.maker,
            "settings": manifest.settings,
            "options": manifest.options,
        }
        write_atomic(store.folder / "manifest.json", (json.dumps(content, indent=2) + "\n").encode())
        return store

    @property
    def renewed(self) -> bool:
        """Whether this is not the store in use but one that will replace it."""
        return self.folder != self.locate(self.data, self.downscale)

    def holds(self, stems: Iterable[str]) -> bool:
        """Whether all of these views are stored; stale ones count."""
        return set(stems) <= set(self.stems())

    def put_in_place(self) -> None:
        """Let a store created with `renew` replace the one in use.

        Raises:
            UserError: its folder cannot be renamed.
        """
        self.folder = self.locate(self.data, self.downscale)
        put_in_place(self.folder)

    # ---------------------------------------------------------------------------------------------- views

    def path(self, stem: str) -> Path:
        """The file of one view."""
        return self.folder / f"{stem}.npz"

    def stems(self) -> list[str]:
        """The views stored, sorted; stale ones included."""
        found = (p for p in self.folder.rglob("*.npz") if not p.name.startswith(".tmp-"))
        return sorted(p.relative_to(self.folder).with_suffix("").as_posix() for p in found)

    def _write(self, stem: str, arrays: dict[str, np.ndarray], meta: dict) -> None:
        """Write one view atomically; `meta` gets the fingerprint of the settings."""
        meta = {**meta, "made_with": self.manifest.fingerprint}
        buffer = io.BytesIO()
        np.savez_compressed(buffer, meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
        write_atomic(self.path(stem), buffer.getvalue())

    def _load(self, stem: str, names: tuple[str, ...] = ()) -> tuple[dict, dict[str, np.ndarray]]:
        """The meta data and the named arrays of one view.

        Raises:
            UserError: the file is missing, damaged or was made with other settings.
        """
        path = self.path(stem)
        try:
            with np.load(path, allow_pickle=False) as file:
                meta = json.loads(file["meta"].tobytes())
                arrays = {name: file[name] for name in names}
            made_with = meta["made_with"]
        except FileNotFoundError:
            raise UserError(f"{path}: this view has no {self.kind}; complete them with: {self.command}") from None
        except (
            OSError,
            ValueError,
            KeyError,
            EOFError,
            TypeError,
            AttributeError,
            zipfile.BadZipFile,
            zipfile.zlib.error,
        ) as error:
            raise UserError(f"{path}: damaged ({error}); make it again with: {self.command}") from None
        if made_with != self.manifest.fingerprint:
            raise UserError(f"{path}: made with other settings than the store's; renew it with: {self.command}")
        return meta, arrays

    @property
    def command(self) -> str:
        """The command that completes or renews this store."""
        return self.command_for(self.data, self.downscale)

    @classmethod
    def command_for(cls, data: Path, downscale: float = 1) -> str:
        """The command that makes, completes or renews a scene's store: with the options the scene was prepared with."""
        stores = cls.locate(data, downscale).parent
        return prepare_command(data, data_folder(data), stores, downscale, encode=cls.kind == "features")


def _describe(manifest: Manifest, other: Manifest | None = None) -> str:
    """The maker, and its settings: all of them, or those that differ from `other`'s."""
    settings = manifest.settings
    if other is not None and other.maker == manifest.maker:
        settings = {k: v for k, v in settings.items() if k not in other.settings or other.settings[k] != v}
    shown = ", ".join(f"{k}={v}" for k, v in list(settings.items())[:8])
    return f"{manifest.maker} ({shown})" if shown else manifest.maker


def as_half(features: Tensor) -> np.ndarray:
    """Features as a contiguous half-precision array on the CPU."""
    return features.detach().to("cpu", torch.float16).contiguous().numpy()
