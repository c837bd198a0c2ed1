"""Load segment-anything checkpoints: the architecture is read off the weights, so any ViT size loads."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PATCH = 16
"""Side of a patch in pixels."""

KNOWN = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
"""Published sizes by width and depth."""

WHICH_FILE = (
    "fetch one with `ag2 prepare --download sam-vit_h` and pass --sam-checkpoint sam-vit_h (or a sam_vit_*.pth of the "
    "segment-anything project)"
)
"""What to tell a user without a usable checkpoint."""


def load_sam(checkpoint: Path | str | None, device: torch.device | str = "cpu") -> tuple[Sam, str]:
    """Build the model a checkpoint belongs to and load it.

    Returns:
        The model in evaluation mode on `device`, and its name (vit_b, vit_l, vit_h, or vit_WIDTHxDEPTH).

    Raises:
        UserError: no file, a damaged file, or weights of something else than segment-anything.
    """
    if checkpoint is None:
        raise UserError(f"sam needs weights: {WHICH_FILE} (or use --segmenter superpixel, which needs none)")
    path = Path(checkpoint)
    state = read_state(path)
    try:
        model, name = build_sam(state)
    except (KeyError, IndexError, ValueError, ZeroDivisionError, StopIteration):
        raise UserError(f"{path}: not a segment-anything checkpoint (other weights inside); {WHICH_FILE}") from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(f"{path}: weights do not fit segment-anything's {name} ({first[:120]}); {WHICH_FILE}") from None
    return model.eval().requires_grad_(False).to(device), name


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint, nothing executed.

    Raises:
        UserError: missing, damaged, or not a dictionary of tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such checkpoint; {WHICH_FILE}") from None
    except Exception as error:  # a file that is none raises whatever torch's and pickle's parsers run into
        reason = (str(error).splitlines() or ["unreadable"])[0][:120]
        raise UserError(f"{path}: damaged or not a torch checkpoint ({reason}); fetch it again: {WHICH_FILE}") from None
    if not isinstance(state, dict) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: not a segment-anything checkpoint (no plain weights inside); {WHICH_FILE}")
    return state


def build_sam(state: dict[str, Tensor]) -> tuple[Sam, str]:
    """An untrained model of the shape of `state`, and its name.

    Raises:
        KeyError: a tensor that every segment-anything model has is missing.
    """
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    _, grid, _, width = state["image_encoder.pos_embed"].shape
    blocks = {int(key.split(".")[2]) for key in state if key.startswith("image_encoder.blocks.")}
    depth = len(blocks)
    relative = [state[f"image_encoder.blocks.{k}.attn.rel_pos_h"].shape for k in range(depth)]
    spans = [(length + 1) // 2 for length, _ in relative]
    everywhere = [k for k, span in enumerate(spans) if span == grid]
    windows = [span for span in spans if span != grid]
    prompt_width = state["image_encoder.neck.0.weight"].shape[0]
    hidden = state["image_encoder.blocks.0.mlp.lin1.weight"].shape[0]
    decoder_depth = len({k.split(".")[3] for k in state if k.startswith("mask_decoder.transformer.layers.")})
    model = Sam(
        image_encoder=ImageEncoderViT(
            img_size=grid * PATCH,
            patch_size=PATCH,
            embed_dim=width,
            depth=depth,
            num_heads=width // relative[0][1],
            mlp_ratio=hidden / width,
            out_chans=prompt_width,
            norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
            use_rel_pos=True,
            window_size=windows[0] if windows else 0,
            global_attn_indexes=tuple(everywhere),
        ),
        prompt_encoder=PromptEncoder(
            embed_dim=prompt_width,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * PATCH, grid * PATCH),
            mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=state["mask_decoder.mask_tokens.weight"].shape[0] - 1,
            transformer=TwoWayTransformer(
                depth=decoder_depth,
                embedding_dim=prompt_width,
                num_heads=8,
                mlp_dim=state["mask_decoder.transformer.layers.0.mlp.lin1.weight"].shape[0],
            ),
            transformer_dim=prompt_width,
            iou_head_depth=3,
            iou_head_hidden_dim=state["mask_decoder.iou_prediction_head.layers.0.weight"].shape[0],
        ),
        pixel_mean=[123.675, 116.28, 103.53],
        pixel_std=[58.395, 57.12, 57.375],
    )
    return model, KNOWN.get((width, depth), f"vit_{width}x{depth}")
