"""Image-text features of every patch of a picture, by frozen encoders whose weights lie on the disk.

GaussTR (CVPR 2025) takes DINOv2's patches with Talk2DINO's texts, or CLIP's patches as MaskCLIP has them, made finer by
FeatUp. FeatUp's maps, being files, are read as they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn.functional import interpolate, linear

from ag2_ns.core.errors import UserError, first_line

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PatchEncoder(Protocol):
    """Features of patches, and of texts that can be compared with them."""

    name: str

    def patches(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "C h w"]:
        """Features of a picture's patches."""
        ...

    def texts(self, prompts: Iterable[str]) -> Float[Tensor, "P C"]:
        """Features of texts.

        Raises:
            UserError: the weights for texts were not given.
        """
        ...


def _pixels(image: np.ndarray, size: tuple[int, int], mean: tuple, std: tuple, device: torch.device) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).to(device).movedim(-1, 0)[None].float() / 255
    pixels = interpolate(pixels, (size[1], size[0]), mode="bilinear", align_corners=False, antialias=True)
    return (pixels - pixels.new_tensor(mean).view(3, 1, 1)) / pixels.new_tensor(std).view(3, 1, 1)


class DinoEncoder:
    """DINOv2 through `transformers`: normalised patch tokens of the last layer (Darcet et al. 2024 with registers).

    Args:
        weights: a folder as `save_pretrained` writes it.
        size: width and height that pictures are resized to, multiples of the patch; 896 x 504 in GaussTR.
        text_model: open_clip model and its weights, whose text embeddings `projection` takes to DINOv2's space.
        projection: Talk2DINO's weights (Barsellotti et al. 2025): two linear layers with tanh between them.
        device: where.
    """

    name = "dinov2"

    def __init__(
        self,
        weights: Path,
        size: tuple[int, int] = (896, 504),
        text_model: ClipPatchEncoder | None = None,
        projection: Path | None = None,
        device: str = "cpu",
    ) -> None:
        try:
            from transformers import AutoModel
        except ImportError:
            raise UserError("DINOv2 needs transformers; install it with pip install 'ag2-ns[surround]'") from None
        if not (Path(weights) / "config.json").is_file():
            raise UserError(f"{weights}: no config.json; name a folder with DINOv2's config.json and weights")
        try:
            self.model = AutoModel.from_pretrained(str(weights), local_files_only=True).eval().to(device)
        except (OSError, ValueError, RuntimeError, KeyError) as error:
            raise UserError(
                f"{weights}: not a model of transformers ({first_line(error)}); download it anew"
            ) from error
        config = self.model.config
        if not hasattr(config, "patch_size"):
            raise UserError(f"{weights}: a model without patches; take DINOv2, with or without registers")
        self.patch, self.skip = int(config.patch_size), 1 + int(getattr(config, "num_register_tokens", 0) or 0)
        self.size = tuple(max(1, round(s / self.patch)) * self.patch for s in size)
        self.device, self._clip = torch.device(device), text_model
        self._layers = None if projection is None else _projection(projection, device)
        self.settings = {"encoder": self.name, "weights": str(weights), "size": list(self.size)}

    @torch.no_grad()
    def patches(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "C h w"]:
        """Features of a picture's patches."""
        pixels = _pixels(image, self.size, IMAGENET_MEAN, IMAGENET_STD, self.device)
        tokens = self.model(pixel_values=pixels).last_hidden_state[0, self.skip :]
        return tokens.T.reshape(-1, self.size[1] // self.patch, self.size[0] // self.patch).float().cpu()

    @torch.no_grad()
    def texts(self, prompts: Iterable[str]) -> Float[Tensor, "P C"]:
        """Texts by CLIP, taken over by Talk2DINO."""
        if self._clip is None or self._layers is None:
            raise UserError(
                "texts for DINOv2 need CLIP and Talk2DINO: give --clip-checkpoint FILE and --talk2dino FILE, or write "
                "text_features.npy yourself"
            )
        (w0, b0), (w1, b1) = self._layers
        return linear(torch.tanh(linear(self._clip.texts(prompts).to(self.device), w0, b0)), w1, b1).cpu()


class ClipPatchEncoder:
    """CLIP's patches as MaskCLIP has them (Zhou et al. 2022, "Extract free dense labels from CLIP", section 3.2).

    In the last layer every patch keeps its own value instead of a mean over all patches.

    Args:
        model: an open_clip model with a plain vision transformer.
        checkpoint: its weights: a file, or a tag in the local cache; None for random ones (tests).
        size: width and height that pictures are resized to.
        device: where.
    """

    name = "maskclip"

    def __init__(
        self, model: str, checkpoint: str | None, size: tuple[int, int] = (768, 432), device: str = "cpu"
    ) -> None:
        import open_clip

        from ag2_ns.perception.openclip import find_weights

        path = None if checkpoint is None else str(find_weights(model, str(checkpoint), False))
        try:
            self.model = open_clip.create_model(model, pretrained=path, device=device).eval()
        except (RuntimeError, ValueError, KeyError, OSError) as error:
            raise UserError(f"{checkpoint}: not the weights of {model} ({first_line(error)})") from error
        visual = self.model.visual
        if not hasattr(visual, "conv1") or not hasattr(visual, "transformer"):
            raise UserError(f"{model}: not a plain vision transformer; take ViT-B-16 or ViT-B-32")
        self.patch = int(visual.conv1.kernel_size[0])
        self.size = tuple(max(1, round(s / self.patch)) * self.patch for s in size)
        self.device, self._tokenise = torch.device(device), open_clip.get_tokenizer(model)
        self.settings = {"encoder": self.name, "model": model, "weights": path, "size": list(self.size)}

    @torch.no_grad()
    def patches(self, image: UInt8[np.ndarray, "H W 3"]) -> Float[Tensor, "C h w"]:
        """Features of a picture's patches."""
        from ag2_ns.perception.openclip import CLIP_MEAN, CLIP_STD

        visual: nn.Module = self.model.visual
        grid = visual.conv1(_pixels(image, self.size, CLIP_MEAN, CLIP_STD, self.device))
        h, w = grid.shape[-2:]
        x = torch.cat([visual.class_embedding.expand(1, 1, -1), grid.flatten(2).transpose(1, 2)], 1)
        x = visual.ln_pre(x + _positions(visual.positional_embedding, h, w))
        *blocks, last = visual.transformer.resblocks
        first = getattr(visual.transformer, "batch_first", True)
        x = x if first else x.transpose(0, 1)
        for block in blocks:
            x = block(x)
        x = (x if first else x.transpose(0, 1))[0, 1:]
        width = x.shape[-1]
        attend = last.attn
        value = linear(last.ln_1(x), attend.in_proj_weight[2 * width :], attend.in_proj_bias[2 * width :])
        out = visual.ln_post(attend.out_proj(value)) @ visual.proj
        return out.T.reshape(-1, h, w).float().cpu()

    @torch.no_grad()
    def texts(self, prompts: Iterable[str]) -> Float[Tensor, "P C"]:
        """Unit vectors of the bare prompts, as GaussTR asks them."""
        tokens = self._tokenise(list(prompts)).to(self.device)
        return self.model.encode_text(tokens, normalize=True).float().cpu()


def _positions(table: Float[Tensor, "T W"], h: int, w: int) -> Float[Tensor, "T' W"]:
    """Positions of another grid of patches, the class token's first."""
    side = round((len(table) - 1) ** 0.5)
    grid = table[1:].T.reshape(1, -1, side, side)
    if (h, w) != (side, side):
        grid = interpolate(grid, (h, w), mode="bicubic", align_corners=False)
    return torch.cat([table[:1], grid[0].flatten(1).T])


def _projection(path: Path, device: str) -> list[tuple[Tensor, Tensor]]:
    """The two linear layers of Talk2DINO's file."""
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch raises for what is not its file
        raise UserError(f"{path}: not a file of weights ({first_line(error)}); take Talk2DINO's .pth") from error
    content = content.get("model", content) if isinstance(content, dict) else {}
    names = [k.removesuffix(".weight") for k, v in content.items() if k.endswith(".weight") and v.dim() == 2]
    if len(names) != 2 or any(f"{n}.bias" not in content for n in names):
        raise UserError(f"{path}: {len(names)} linear layers, not the two of Talk2DINO; take its .pth")
    return [(content[f"{n}.weight"].float(), content[f"{n}.bias"].float()) for n in names]
