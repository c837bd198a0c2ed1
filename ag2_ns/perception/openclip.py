"""Image-text encoders of open_clip (CLIP, SigLIP and their relatives) on masked crops.

Weights come from a file or from the local cache of an earlier download. Nothing is fetched unless `download` is given.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io.view_store import file_hash
from ag2_ns.perception.crops import masked_crops
from ag2_ns.perception.encoder import register_encoder
from ag2_ns.perception.prompts import RULES, fill, templates
from ag2_ns.perception.text_cache import cached_texts
from ag2_ns.perception.weights import downloaded_tag

BATCH = {"cuda": 256, "cpu": 16}
"""Crops encoded together."""

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Colour statistics CLIP was trained with (Radford et al., 2021)."""


@register_encoder("openclip")
class OpenClipEncoder:
    """An open_clip model.

    Args:
        model: its name, as open_clip lists them (ViT-B-16, ViT-L-14-336, ViT-B-16-SigLIP, ...). For a file of OpenAI's
            own weights take the -quickgelu variant; for a tag that is seen to.
        checkpoint: a weights file, or the name of a pretrained tag whose weights are in the local cache.
        prompts: prompt templates for texts, see `ag2_ns.perception.prompts`.
        download: let open_clip fetch weights that are not in the cache.
        device: where the model runs; half precision on CUDA.
        cache: folder for text embeddings, default the user's cache.
    """

    def __init__(
        self,
        model: str = "ViT-B-16",
        checkpoint: str | Path | None = None,
        prompts: str = "photo",
        download: bool = False,
        device: str = "cpu",
        cache: Path | None = None,
    ):
        import open_clip

        if model not in open_clip.list_models():
            import difflib

            near = difflib.get_close_matches(model, open_clip.list_models(), n=4, cutoff=0.5)
            raise UserError(
                f"open_clip has no model {model!r}; " + (f"nearest: {', '.join(near)}" if near else "see its list")
            )
        self.model_name, self.templates = model, templates(prompts)
        self.device = torch.device(device)
        self.weights = find_weights(model, None if checkpoint is None else str(checkpoint), download)
        self.mean, self.std = colour_statistics(model, checkpoint)
        tagged = open_clip.pretrained.get_pretrained_cfg(model, str(checkpoint)) or {}
        self.quick_gelu = bool(tagged.get("quick_gelu", False))
        self._cache, self._download = cache, download
        config = open_clip.get_model_config(model)
        self.dim = int(config["embed_dim"])
        self.size = _side(config["vision_cfg"].get("image_size", 224))
        weights = file_hash(self.weights)
        self.settings = {
            "model": model,
            "weights": weights,
            "dim": self.dim,
            "crop": self.size,
            "quick_gelu": self.quick_gelu,
        }
        self._text_key = {**self.settings, "templates": list(self.templates), "rules": RULES}
        kept = str(checkpoint) if tagged else os.path.abspath(self.weights)
        self.options = {"model": model, "checkpoint": kept, "prompts": prompts}

    @torch.no_grad()
    def encode_image(self, image: np.ndarray, masks: MaskSet, image_name: str = "") -> Float[Tensor, "M D"]:
        """One vector per mask from its crop on black; zero for an empty mask."""
        out = torch.zeros(len(masks), self.dim)
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device)
        on_device = masks.to(self.device)
        for index, crops in masked_crops(pixels, on_device, self.size, BATCH[self._kind]):
            out[index.cpu()] = self.encode_crops(crops).cpu()
        return out

    @torch.no_grad()
    def encode_crops(self, crops: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
        """Unit vectors of a batch of crops with values in 0..1, at the model's input size."""
        mean, std = (torch.tensor(v, device=self.device).view(1, 3, 1, 1) for v in (self.mean, self.std))
        batch = ((crops.to(self.device) - mean) / std).to(self._dtype)
        return normalize(self._model.encode_image(batch).float(), dim=1)

    def encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        """Unit vectors of texts, averaged over the prompt templates; from the disk cache where they are known.

        Raises:
            UserError: the tokenizer of this model is not on this machine.
        """
        return (
            cached_texts(texts, self._text_key, self._encode_text, self._cache) if texts else torch.zeros(0, self.dim)
        )

    @torch.no_grad()
    def _encode_text(self, texts: list[str]) -> Float[Tensor, "T D"]:
        prompts = [fill(template, text) for text in texts for template in self.templates]
        rows = [
            normalize(self._model.encode_text(self._tokenizer(prompts[i : i + 64]).to(self.device)).float(), dim=1)
            for i in range(0, len(prompts), 64)
        ]
        return normalize(torch.cat(rows).view(len(texts), len(self.templates), -1).mean(1), dim=1).cpu()

    @property
    def _kind(self) -> str:
        return "cuda" if self.device.type == "cuda" else "cpu"

    @property
    def _dtype(self) -> torch.dtype:
        return torch.float16 if self._kind == "cuda" else torch.float32

    @cached_property
    def _model(self) -> torch.nn.Module:
        """The model, loaded when first used: cached texts do not need it."""
        import open_clip

        try:
            with offline(not self._download):
                model = open_clip.create_model(
                    self.model_name,
                    pretrained=str(self.weights),
                    precision="fp16" if self._kind == "cuda" else "fp32",
                    device=self.device,
                    pretrained_hf=False,
                    force_quick_gelu=self.quick_gelu,
                )
        except (
            RuntimeError,
            AssertionError,
            OSError,
            EOFError,
            LookupError,
            ValueError,
            pickle.UnpicklingError,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
            if "timm" in reason:
                raise UserError(
                    f"{self.model_name} needs the package timm (pip install timm), or use a ViT-* CLIP"
                ) from None
            raise UserError(
                f"{self.weights}: cannot be loaded as {self.model_name} ({reason}); give the checkpoint of that model, "
                "or its model name with --clip-model"
            ) from None
        return model.eval().requires_grad_(False)

    @cached_property
    def _tokenizer(self) -> Any:
        import open_clip

        try:
            with offline(not self._download):
                return open_clip.get_tokenizer(self.model_name)
        except Exception as error:  # tokenizers of other libraries fail in many ways
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UserError(
                f"the tokenizer of {self.model_name} is not on this machine ({reason}); install transformers and run "
                "once with --download, or use a ViT-* CLIP model, whose tokenizer comes with open_clip"
            ) from None


def find_weights(model: str, checkpoint: str | None, download: bool) -> Path:
    """The weights file: `checkpoint` itself, or the one that a pretrained tag has in the local cache.

    Raises:
        UserError: there is none, and downloading was not asked for.
    """
    import open_clip
    from open_clip.pretrained import download_pretrained, get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(model)
    known = f"a file, or a tag of this model: {', '.join(tags[:6])}" if tags else "a file"
    if checkpoint is None:
        raise UserError(f"openclip needs the weights of {model}: pass --clip-checkpoint ({known})")
    if Path(checkpoint).is_file():
        return Path(checkpoint)
    if checkpoint not in tags:
        raise UserError(f"{checkpoint}: no such file; pass --clip-checkpoint ({known})")
    config = get_pretrained_cfg(model, checkpoint)
    found = downloaded_tag(model, checkpoint) or _in_cache(config)
    if found is None and not download:
        raise UserError(
            f"the weights {model} / {checkpoint} are not on this machine; add --download to fetch them, or give a file "
            "with --clip-checkpoint"
        )
    return found or Path(download_pretrained(config))


def _in_cache(config: dict) -> Path | None:
    """Where an earlier download of a pretrained tag left its file, or None."""
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    repository = config.get("hf_hub", "")
    if repository:
        try:
            from huggingface_hub import try_to_load_from_cache
        except ImportError:
            repository = ""
    if repository:
        folder, _, name = repository.rpartition("/")
        for file in [name] if name else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]:
            path = try_to_load_from_cache(folder, file)
            if isinstance(path, str):
                return Path(path)
    url = config.get("url", "")
    path = Path.home() / ".cache" / "clip" / os.path.basename(url)
    return path if url and path.is_file() else None


def colour_statistics(model: str, tag: str | Path | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the colours a model expects: the tag's, else those its known tags agree on."""
    import open_clip
    from open_clip.pretrained import get_pretrained_cfg

    tags = open_clip.list_pretrained_tags_by_model(model)
    wanted = [str(tag)] if str(tag) in tags else tags
    found = []
    for name in wanted:
        config = get_pretrained_cfg(model, name)
        found.append((tuple(config.get("mean") or CLIP_MEAN), tuple(config.get("std") or CLIP_STD)))
    return found[0] if len(set(found)) == 1 else (CLIP_MEAN, CLIP_STD)


_OFFLINE = RLock()
"""Threads that overlapped would put back each other's settings."""


@contextmanager
def offline(active: bool = True) -> Iterator[None]:
    """Keep Hugging Face libraries from the network for a while; other threads wait."""
    if not active:
        yield
        return
    with _OFFLINE:
        yield from _offline()


def _offline() -> Iterator[None]:
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        from huggingface_hub import constants
    except ImportError:
        constants = None
    flag = getattr(constants, "HF_HUB_OFFLINE", None)
    if flag is not None:
        constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        if flag is not None:
            constants.HF_HUB_OFFLINE = flag
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _side(size: int | tuple[int, int] | list[int]) -> int:
    """The input side in pixels; models with oblong inputs get the longer one."""
    return int(size) if isinstance(size, int) else int(max(size))
