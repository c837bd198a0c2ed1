from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch


@pytest.fixture
def scene() -> np.ndarray:
    """A red disc, a blue square with a white bar on it, and a green ground, with a little noise: uint8 [96, 128, 3]."""
    rng = np.random.default_rng(0)
    image = np.full((96, 128, 3), (70, 140, 60), np.float32)
    y, x = np.mgrid[:96, :128]
    image[(y - 40) ** 2 + (x - 35) ** 2 < 24**2] = (190, 40, 40)
    image[25:75, 75:115] = (40, 60, 190)
    image[45:55, 80:110] = (235, 235, 230)
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def sam_checkpoint(tmp_path_factory) -> str:
    """A segment-anything checkpoint of random weights and the smallest sizes, written to disk."""
    return write_tiny_sam(tmp_path_factory.mktemp("sam") / "tiny.pth")


def write_tiny_sam(path, confidence: float = 0.95) -> str:
    from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

    side, width = 128, 32
    torch.manual_seed(3)
    model = Sam(
        ImageEncoderViT(
            img_size=side, patch_size=16, embed_dim=48, depth=2, num_heads=3, out_chans=width, use_rel_pos=True,
            window_size=5, global_attn_indexes=(1,), norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        ),
        PromptEncoder(
            embed_dim=width, image_embedding_size=(side // 16,) * 2, input_image_size=(side, side), mask_in_chans=16
        ),
        MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=width, num_heads=8, mlp_dim=64),
            transformer_dim=width, iou_head_depth=3, iou_head_hidden_dim=32,
        ),
        [123.675, 116.28, 103.53],
        [58.395, 57.12, 57.375],
    )  # fmt: skip
    # Random logits are tiny and the predicted IoU is near 0: make masks decisive and confident.
    head = model.mask_decoder.iou_prediction_head.layers[-1]
    head.bias.data += confidence
    for mlp in model.mask_decoder.output_hypernetworks_mlps:
        mlp.layers[-1].weight.data *= 300
    torch.save(model.state_dict(), path)
    return str(path)
