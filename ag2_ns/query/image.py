"""Image queries: the instance that looks like a picture, or like a crop of one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image as Pictures
from PIL import ImageOps, UnidentifiedImageError
from torch import Tensor

from ag2_ns.core.answer import Answer
from ag2_ns.core.errors import MissingLanguage, UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.language.field import LanguageField
from ag2_ns.language.word_space import WordSpace
from ag2_ns.perception.nouns import NOUNS
from ag2_ns.query.collaborative import Strategy
from ag2_ns.query.config import QueryConfig
from ag2_ns.query.query import Query
from ag2_ns.query.vector import called_nearest, select_vector
from ag2_ns.scene.scene import Scene
from ag2_ns.scene.scene_index import SceneIndex

LEAST = 8
"""Fewest pixels across and down of a picture that can be asked for."""

EVERY = 4
"""Of so many nouns one is taken: some 300 span what nouns say, and are embedded in seconds where no GPU is."""

Crop = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels."""


@dataclass(frozen=True)
class Image(Query):
    """What looks like a picture.

    Pictures and words lie apart in the space of image-text encoders, so a picture is compared with what is typical of
    the scene, not with words.
    """

    picture: Path | UInt8[np.ndarray, "H W 3"] = field(compare=False)
    """A file, or pixels."""
    crop: Crop | None = None
    """The part that shows the thing."""
    strategy: Strategy | None = None
    """See `ag2_ns.query.collaborative.Strategy`; by default as the scene's `QueryConfig` says."""
    floor: float | None = None
    """Least relevancy of an answer; by default the `QueryConfig`'s."""
    name: str = ""
    """What to call it; by default after the file."""

    @classmethod
    def from_option(cls, value: Path, **further: Any) -> Image:
        """`--image FILE [--crop X0 Y0 X1 Y1] [--strategy S] [--floor F]`."""
        return cls(Path(value), **further)

    @property
    def label(self) -> str:
        """What it is called."""
        called = self.name or (f"like {self.picture.name}" if isinstance(self.picture, Path) else "like the picture")
        return called

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """The instance whose masks look most like the picture; nothing where none stands out of the scene.

        Raises:
            UserError: no instances or language, no such picture, a crop outside of it, or an encoder without pictures.
        """
        index = scene.require_index()
        if scene.texts is None or not index.has_language:
            raise MissingLanguage("this scene has no language: run `ag2 prepare` with an encoder, then `ag2 lift`")
        pixels = read_picture(self.picture) if isinstance(self.picture, Path) else _as_picture(self.picture)
        vector = picture_vector(scene.texts.encoder(), cropped(pixels, self.crop, self.label)).to(scene.device)
        config = scene.config(QueryConfig)
        floor = config.image_floor if self.floor is None else self.floor
        found = select_picture(
            index, self.label, vector, texts_of(scene), strategy=self.strategy or config.strategy,
            field=scene.language_field, gaussians=scene.gaussians, floor=floor, level=level, config=config,
        )  # fmt: skip
        return called_nearest(scene, found, floor)


def select_picture(
    index: SceneIndex,
    label: str,
    vector: Float[Tensor, " D"],
    texts: Float[Tensor, "V D"] | None,
    *,
    strategy: Strategy = "tree",
    field: LanguageField | None = None,
    **further: Any,
) -> Answer:
    """What a picture shows, by `select_vector` (see there for the further arguments): one thing, against the median.

    Args:
        index: the scene's instances and their language.
        label: what was asked, for people.
        vector: the picture, embedded.
        texts: embedded likewise, in whose span pictures are compared (see `word_space`); None compares them as they
            are.
        strategy: see `Strategy`.
        field: the scene's language field, for the other strategies than "tree".
    """
    if texts is not None and index.has_language and len(texts) > 2 and vector.shape == texts.shape[1:]:
        space = WordSpace.of(texts.to(vector), index.language)
        index = replace(index, language=replace(index.language, feature=space(index.language.feature)))
        vector = space(vector[None])[0]
        if strategy != "tree" and field is not None:
            field = replace(field, language=space(field.language))
    return select_vector(index, label, vector, None, strategy=strategy, field=field, several=False, **further)


def texts_of(scene: Scene) -> Float[Tensor, "V D"] | None:
    """Texts in whose span the scene's encoder compares pictures; None for one that only knows some kinds of words."""
    encoder = scene.texts.encoder()
    if getattr(encoder, "knows", ""):
        return None
    return encoder.encode_text(list(NOUNS[::EVERY])).float()


def read_picture(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """A picture as it is seen: turned as its camera says, transparent parts on black.

    Raises:
        UserError: no such file, or not a picture.
    """
    try:
        with Pictures.open(path) as file:
            turned = ImageOps.exif_transpose(file)
            if turned.mode in ("RGBA", "LA", "PA") or "transparency" in turned.info:
                seen = turned.convert("RGBA")
                turned = Pictures.alpha_composite(Pictures.new("RGBA", seen.size, (0, 0, 0, 255)), seen)
            return np.asarray(turned.convert("RGB"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a picture of what to look for with --image") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: cannot be read as a picture ({why}); give a .jpg or .png") from None


def cropped(pixels: UInt8[np.ndarray, "H W 3"], crop: Crop | None, what: str) -> UInt8[np.ndarray, "h w 3"]:
    """A part of a picture.

    Raises:
        UserError: it lies outside of the picture, or is too small to show anything.
    """
    height, width = pixels.shape[:2]
    if crop is not None:
        if not all(math.isfinite(v) for v in crop):
            raise UserError(f"{what}: --crop takes X0 Y0 X1 Y1 in pixels, as numbers")
        x0, y0, x1, y1 = (round(v) for v in crop)
        if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
            raise UserError(
                f"{what}: --crop {x0} {y0} {x1} {y1} does not lie inside of its {width}x{height} pixels; give X0 Y0 X1 "
                "Y1 with X0 < X1 and Y0 < Y1"
            )
        pixels = pixels[y0:y1, x0:x1]
    if min(pixels.shape[:2]) < LEAST:
        raise UserError(
            f"{what}: {pixels.shape[1]}x{pixels.shape[0]} pixels show too little; give at least {LEAST} each way"
        )
    return np.ascontiguousarray(pixels)


def picture_vector(encoder: Any, pixels: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, " D"]:
    """A whole picture as the encoder of a scene's language sees it.

    Raises:
        UserError: the encoder takes no pictures, or has nothing to say of this one.
    """
    if not getattr(encoder, "encodes_pictures", True):
        raise UserError(
            f"the scene's language is by the encoder {encoder.name}, which takes no pictures of its own; prepare it "
            "with --encoder openclip, siglip or palette, then `ag2 lift`"
        )
    whole = MaskSet.from_dense(torch.ones(1, *pixels.shape[:2], dtype=torch.bool))
    vector = encoder.encode_image(pixels, whole, "")[0].float()
    if not bool((vector != 0).any()):
        raise UserError(f"the encoder {encoder.name} has nothing to say of this picture; give another one")
    return vector


def _as_picture(pixels: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Pixels as bytes of three channels.

    Raises:
        UserError: they are none.
    """
    array = np.asarray(pixels)
    if array.ndim != 3 or array.shape[2] not in (3, 4) or array.dtype != np.uint8:
        raise UserError(f"a picture must be uint8 H x W x 3, not {array.dtype} {array.shape}")
    return array[..., :3]
