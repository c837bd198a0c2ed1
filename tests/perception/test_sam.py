from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.perception import point_grid
from ag2_ns.perception.point_grid import SamPreset, clean_masks
from ag2_ns.perception.sam import SamSegmenter
from ag2_ns.perception.sam_model import load_sam
from ag2_ns.perception.segmenter import make_segmenter


def as_sets(dense: np.ndarray) -> set[bytes]:
    return {np.packbits(mask).tobytes() for mask in dense}


class PointsThrough(torch.nn.Module):
    """Stands for the prompt encoder: hands the points on."""

    def forward(self, points, boxes, masks):
        return points[0], torch.zeros(())

    def get_dense_pe(self):
        return torch.zeros(())


class Blobs(torch.nn.Module):
    """Stands for the mask decoder: three ragged discs around every point, of sizes and qualities that vary."""

    def forward(self, image_embeddings, image_pe, sparse_prompt_embeddings, dense_prompt_embeddings, multimask_output):
        x, y = sparse_prompt_embeddings[:, 0].float().unbind(1)
        v, u = torch.meshgrid(torch.arange(32) * 4 + 2.0, torch.arange(32) * 4 + 2.0, indexing="ij")
        distance = torch.sqrt((u - x[:, None, None]) ** 2 + (v - y[:, None, None]) ** 2)[:, None]
        ragged = 5 * torch.sin(u * 0.9) * torch.cos(v * 1.1) + 3 * torch.sin(u * v * 0.01)
        radius = torch.stack([6 + x % 5, 14 + y % 7, 26 + (x + y) % 9], 1)[:, :, None, None]
        quality = 0.6 + 0.4 * torch.stack([torch.sin(x * y), torch.cos(x + 3 * y), torch.sin(x - y)], 1).abs()
        return radius - distance + ragged, quality


@pytest.mark.parametrize("crop_layers, min_region", [(0, 0), (0, 20), (1, 20)])
def test_same_masks_as_the_automatic_mask_generator(scene, sam_checkpoint, monkeypatch, crop_layers, min_region):
    """Against segment-anything's own generator, before our suppression (switched off here)."""
    from segment_anything import SamAutomaticMaskGenerator

    model, _ = load_sam(sam_checkpoint)
    model.prompt_encoder, model.mask_decoder = PointsThrough(), Blobs()
    theirs = SamAutomaticMaskGenerator(
        model, points_per_side=6, pred_iou_thresh=0.7, stability_score_thresh=0.8, box_nms_thresh=0.7,
        crop_n_layers=crop_layers, min_mask_region_area=min_region,
    ).generate(scene)  # fmt: skip
    assert len(theirs) >= 10
    segmenter = SamSegmenter(sam_checkpoint)
    segmenter.model = model
    segmenter.preset = SamPreset(6, 0.7, 0.8, crop_layers, 1, min_region, 0.7, None)
    monkeypatch.setattr(
        point_grid, "suppress_masks", lambda masks, score, **_: torch.ones(len(masks), dtype=torch.bool)
    )
    ours = segmenter.segment(scene)
    assert as_sets(ours.dense().numpy()) == as_sets(np.stack([t["segmentation"] for t in theirs]))
    expected = sorted(t["predicted_iou"] * t["stability_score"] for t in theirs)
    assert np.allclose(sorted(ours.score.tolist()), expected, atol=1e-5)


def test_scores_are_sorted_and_duplicates_gone(scene, sam_checkpoint):
    segmenter = make_segmenter("sam", checkpoint=sam_checkpoint, preset="default", points_per_side=4)
    segmenter.preset = replace(segmenter.preset, stability=0.5)
    masks = segmenter.segment(scene, "view")
    assert len(masks) >= 1
    assert (masks.score.diff() <= 0).all()
    assert (masks.areas > 25).all()
    assert segmenter.settings["model"] == "vit_48x2"
    assert set(segmenter.options) == {"checkpoint", "preset", "points_per_side"}


def test_no_mask_passes(scene, sam_checkpoint):
    segmenter = SamSegmenter(sam_checkpoint, points_per_side=2)
    segmenter.preset = replace(segmenter.preset, pred_iou=1e9)
    assert len(segmenter.segment(scene)) == 0


def test_published_presets():
    coarse, detail = point_grid.PRESETS["coarse"], point_grid.PRESETS["detail"]
    assert (coarse.points_per_side, coarse.pred_iou, coarse.stability, coarse.crop_layers, coarse.min_region) == (
        32, 0.88, 0.95, 0, 100,
    )  # fmt: skip
    assert (detail.pred_iou, detail.stability, detail.crop_layers, detail.min_region) == (0.7, 0.85, 1, 50)


def test_architecture_is_read_off_published_weights():
    """vit_b at full width and depth, built from shapes alone (no memory is touched)."""
    from segment_anything import sam_model_registry

    from ag2_ns.perception.sam_model import build_sam

    with torch.device("meta"):
        theirs = sam_model_registry["vit_b"]()
        ours, name = build_sam(theirs.state_dict())
    assert name == "vit_b"
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert [b.window_size for b in ours.image_encoder.blocks] == [b.window_size for b in theirs.image_encoder.blocks]
    heads = [b.attn.num_heads for b in ours.image_encoder.blocks]
    assert heads == [b.attn.num_heads for b in theirs.image_encoder.blocks]


def test_small_regions_are_cleaned_as_on_the_whole_image():
    from segment_anything.utils.amg import remove_small_regions

    generator = torch.Generator().manual_seed(0)
    dense = torch.zeros(6, 60, 70, dtype=torch.bool)
    for k in range(6):
        y, x, size = (int(v) for v in torch.randint(0, 30, (3,), generator=generator))
        dense[k, y : y + size + 8, x : x + size + 8] = True
    dense ^= torch.rand(dense.shape, generator=generator) < 0.03
    masks, keep = clean_masks(MaskSet.from_dense(dense), 12, box_iou=2.0)
    assert keep.tolist() == list(range(6))
    for mask, result in zip(dense.numpy(), masks.dense().numpy()):
        expected, _ = remove_small_regions(mask, 12, "holes")
        expected, _ = remove_small_regions(expected, 12, "islands")
        assert np.array_equal(result, expected)


def test_bad_checkpoints(tmp_path, sam_checkpoint):
    with pytest.raises(UserError, match="--sam-checkpoint"):
        make_segmenter("sam")
    with pytest.raises(UserError, match=r"gone\.pth: no such checkpoint"):
        SamSegmenter(tmp_path / "gone.pth")
    broken = tmp_path / "broken.pth"
    broken.write_bytes(Path(sam_checkpoint).read_bytes()[:5000])
    with pytest.raises(UserError, match=r"broken\.pth: damaged"):
        SamSegmenter(broken)
    other = tmp_path / "other.pth"
    torch.save(torch.nn.Linear(3, 3).state_dict(), other)
    with pytest.raises(UserError, match="not a segment-anything checkpoint"):
        SamSegmenter(other)
    state = torch.load(sam_checkpoint)
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, other)
    with pytest.raises(UserError, match=r"iou_token|do not fit"):
        SamSegmenter(other)
    torch.save({"model": [1, 2]}, other)
    with pytest.raises(UserError, match="no plain weights"):
        SamSegmenter(other)
    with pytest.raises(UserError, match="coarse, default, detail"):
        SamSegmenter(sam_checkpoint, preset="best")


@pytest.mark.gpu
def test_cuda_agrees_with_cpu(scene, sam_checkpoint):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    a = SamSegmenter(sam_checkpoint, points_per_side=4).segment(scene)
    b = SamSegmenter(sam_checkpoint, points_per_side=4, device="cuda").segment(scene)
    assert abs(len(a) - len(b)) <= 2
