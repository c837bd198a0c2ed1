"""`ag2 undistort`, and masks made on the pictures as they lie on disk."""

import json

import numpy as np
import pytest
import torch
from lens_scene import (
    LENSES,
    H,
    W,
    check_points,
    colmap_frames,
    from_true,
    number,
    retake,
    save,
    straight_scene,
    through,
    true_ids,
)  # fmt: skip
from PIL import Image
from plyfile import PlyData

from ag2_ns.cli.undistort import Undistort
from ag2_ns.core.errors import UserError
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.plugin.dataparser import AG2DataParserConfig
from ag2_ns.plugin.prepare import Prepare
from ag2_ns.plugin.undistorted import served_images


def overlap(scene, least: float) -> None:
    """The discs have masks: mean IoU. Ids are sampled twice by the nearest pixel, which costs a few percent."""
    store, found = MaskStore.open(scene), []
    for view in served_images(scene):
        masks = store.read(view.name).dense().numpy()
        ids, seen = from_true(true_ids(number(view)), view.undistortion.camera, nearest=True)
        for i in np.unique(ids[seen])[1:]:
            disc = (ids == i) & seen
            if disc.sum() > 150:
                found.append(max((m & disc).sum() / ((m & seen) | disc).sum() for m in masks))
    assert np.mean(found) > least, found


@pytest.mark.parametrize("model", ["OPENCV", "OPENCV_FISHEYE", "FOV"])
@pytest.mark.parametrize("suffix", [".png", ".png.png", ".tif"])
def test_masks_made_on_the_pictures_on_disk(model, suffix, tmp_path, capsys):
    """Recipe 11: undistorted with the picture, whichever size the two have."""
    scene = colmap_frames(tmp_path / "s", [model] * 3)
    (tmp_path / "masks").mkdir()
    for k in range(3):  # pictures with edges where the masks have theirs
        bent = Image.fromarray(through(true_ids(k) * 60, model)).convert("RGB")
        bent.save(scene / f"images/view_{k:02d}.png")
        Image.fromarray(through(true_ids(k), model, nearest=True)).save(tmp_path / f"masks/view_{k:02d}{suffix}")
    Prepare(scene, masks_dir=tmp_path / "masks", encoder="none", preview_every=0).main()
    overlap(scene, 0.88)
    said = " ".join(capsys.readouterr().out.split())
    assert ("made on the pictures on disk" in said) == (model != "OPENCV"), "where sizes do not tell, a line does"


def test_masks_made_on_what_undistort_writes(tmp_path, capsys):
    """The advice of the line above is followed; without it the edges tell."""
    scene = colmap_frames(tmp_path / "s", ["OPENCV_FISHEYE"] * 3)
    for k in range(3):  # pictures with edges where the masks have theirs
        Image.fromarray(through(true_ids(k) * 60, "OPENCV_FISHEYE")).convert("RGB").save(
            scene / f"images/view_{k:02d}.png"
        )
    Undistort(scene, tmp_path / "out").main()
    (tmp_path / "masks").mkdir()
    for view in served_images(tmp_path / "out"):
        ids, _ = from_true(true_ids(number(view)), view.undistortion.camera, nearest=True)
        Image.fromarray(ids).save(tmp_path / f"masks/{view.name}.png")
    Prepare(scene, masks_dir=tmp_path / "masks", encoder="none", preview_every=0).main()
    assert "made on the undistorted pictures" in " ".join(capsys.readouterr().out.split())
    overlap(scene, 0.95)
    Prepare(
        scene, masks_dir=tmp_path / "masks", masks_on="undistorted", encoder="none", preview_every=0, overwrite=True
    ).main()
    overlap(scene, 0.95)


def test_masks_of_a_third_size_are_told_both(tmp_path):
    scene = colmap_frames(tmp_path / "s", ["OPENCV"] * 3)
    (tmp_path / "masks").mkdir()
    for k in range(3):
        Image.new("L", (50, 50), 1).save(tmp_path / f"masks/view_{k:02d}.png")
    with pytest.raises(UserError, match=rf"masks are 50x50 but the picture on disk is {W}x{H}, undistorted"):
        Prepare(scene, masks_dir=tmp_path / "masks", encoder="none", resize_masks=True).main()


def test_smoothed_colours_are_no_masks(tmp_path):
    scene, _ = straight_scene(tmp_path / "s", views=2)
    (tmp_path / "masks").mkdir()
    palette = np.random.default_rng(0).integers(30, 255, (256, 3)).astype(np.uint8)
    for k in range(2):
        big = Image.fromarray(palette[true_ids(k)]).resize((2 * W, 2 * H), 0)
        big.resize((W, H), Image.Resampling.LANCZOS).save(tmp_path / f"masks/view_{k:02d}.png")
    with pytest.raises(UserError, match="colours were mixed along edges; save and resize") as error:
        Prepare(scene, masks_dir=tmp_path / "masks", encoder="none").main()
    assert "\n" not in str(error.value)


def test_the_copy_is_what_training_serves(tmp_path, capsys):
    """Masks, depths, splits, points, frames and all; the same pictures to the bit."""
    scene, meta = straight_scene(tmp_path / "s")
    (scene / "masks").mkdir()
    _, (fx, fy, cx, cy), c = LENSES["OPENCV"]
    for k in (1, 4):
        retake(scene, k, "OPENCV")
        meta["frames"][k] |= {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy} | dict(zip(("k1", "k2", "p1", "p2"), c))
        mask = np.zeros((H, W), np.uint8)
        mask[:, 20:] = 255
        Image.fromarray(mask).save(scene / f"masks/view_{k:02d}.png")
        Image.fromarray((np.arange(W * H, dtype=np.uint16) * 5).reshape(H, W)).save(scene / f"masks/depth_{k}.png")
        meta["frames"][k] |= {"mask_path": f"masks/view_{k:02d}.png", "depth_file_path": f"masks/depth_{k}.png"}
    meta |= {"train_filenames": [f"images/view_{k:02d}.png" for k in range(4)], "orientation_override": "none"}
    meta["applied_transform"] = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0]]
    save(scene, meta)
    out = tmp_path / "out"
    Undistort(scene, out).main()
    assert "6 pictures, 2 of them undistorted" in " ".join(capsys.readouterr().out.split())
    ours, copies = served_images(scene), served_images(out)
    assert {v.name for v in ours} == {v.name for v in copies}
    by_name = {v.name: v for v in copies}
    for view in ours:
        copy = by_name[view.name]
        assert np.array_equal(view.load(), copy.load())
        assert copy.undistortion.camera == copy.undistortion.distorted
        for name in ("fx", "fy", "cx", "cy", "width", "height"):
            a, b = (float(getattr(v.undistortion.camera, name)) for v in (view, copy))
            assert np.float32(a) == np.float32(b)
        masks = [v.dataset.get_mask(v.index) for v in (view, copy)]
        assert (masks[0] is None) == (masks[1] is None) and (masks[0] is None or torch.equal(*masks))
    for split in ("train", "val"):
        a, b = (
            AG2DataParserConfig(data=d, undoes_lenses=True).setup().get_dataparser_outputs(split) for d in (scene, out)
        )
        assert [f.stem for f in a.image_filenames] == [f.stem for f in b.image_filenames]
        assert torch.allclose(a.cameras.camera_to_worlds, b.cameras.camera_to_worlds, atol=1e-6)
        assert torch.allclose(a.dataparser_transform, b.dataparser_transform, atol=1e-6)
        check_points(b)
    with Image.open(out / "depths/view_01.png") as depth:
        assert depth.size == (
            by_name["view_01"].undistortion.camera.width,
            by_name["view_01"].undistortion.camera.height,
        )
        assert set(np.unique(np.array(depth)) % 5) == {0}, "no mixed depths"
    with pytest.raises(UserError, match="holds a scene already"):
        Undistort(scene, out).main()
    with pytest.raises(UserError, match="is the scene itself"):
        Undistort(scene, scene).main()


def test_copies_of_surveys_keep_their_coordinates(tmp_path):
    far = np.array([441547.502, 5121946.513, 2345.087])
    scene = colmap_frames(tmp_path / "s", ["OPENCV"] * 4, offset=far)
    Undistort(scene, tmp_path / "out").main()
    cloud = PlyData.read(str(tmp_path / "out/sparse_pc.ply"))["vertex"].data
    assert cloud.dtype["x"] == np.float64 and abs(cloud["x"][0] - far[0]) < 1e-6
    check_points(AG2DataParserConfig(data=tmp_path / "out").setup().get_dataparser_outputs("train"))
    meta = json.loads((tmp_path / "out/transforms.json").read_text())
    assert abs(abs(meta["frames"][0]["transform_matrix"][1][3]) - 2345) < 5, "turned upright, not centred"
