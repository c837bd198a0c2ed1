from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ag2_ns.core.errors import UserError
from ag2_ns.core.masks import MaskSet
from ag2_ns.io import atomic
from ag2_ns.io.mask_store import MaskStore, decode_runs, encode_runs
from ag2_ns.io.view_store import Manifest, data_folder, file_hash, image_print, same_image, view_key

HOW = Manifest("superpixel", {"preset": "default"}, {"preset": "default"})


def random_masks(count, height, width, seed, density=0.5) -> MaskSet:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(count, height, width, generator=generator) < density
    return MaskSet.from_dense(dense, torch.rand(count, generator=generator))


def same(a: MaskSet, b: MaskSet) -> bool:
    return (a.height, a.width) == (b.height, b.width) and all(
        torch.equal(getattr(a, name), getattr(b, name)) for name in ("pixel", "mask", "score")
    )


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 6),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.1, 0.6, 1.0]),
)
def test_runs_round_trip(count, height, width, seed, density):
    masks = random_masks(count, height, width, seed, density)
    assert same(decode_runs(encode_runs(masks), height, width), masks)


def test_store_round_trip(tmp_path):
    masks = random_masks(5, 30, 40, 0)
    store = MaskStore.create(tmp_path, HOW)
    store.write("sub/a", masks, "hash")
    store = MaskStore.open(tmp_path)
    assert same(store.read("sub/a", "hash"), masks)
    assert store.has("sub/a", "hash")
    assert store.has("sub/a")
    assert not store.has("sub/a", "other")
    assert not store.has("b")
    assert store.stems() == ["sub/a"]
    assert store.size("sub/a") == (30, 40)
    assert store.manifest == HOW
    assert store.read("sub/a").pixel.dtype == torch.int64
    with np.load(store.path("sub/a"), allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)


def test_sixteen_segmenter_like_masks_are_small(tmp_path):
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:480, :640]
    dense = []
    for _ in range(16):
        cy, cx, r = rng.uniform(60, 420), rng.uniform(60, 580), rng.uniform(40, 170)
        noise = gaussian_filter(rng.normal(size=(480, 640)), 6)
        dense.append(np.hypot(y - cy, x - cx) + 12 * noise / noise.std() < r)
    store = MaskStore.create(tmp_path, HOW)
    store.write("a", MaskSet.from_dense(torch.from_numpy(np.stack(dense))), "h")
    assert store.path("a").stat().st_size < 30_000


def test_identity_follows_the_masks(tmp_path):
    store = MaskStore.create(tmp_path, HOW)
    one = store.write("a", random_masks(3, 9, 9, 0), "h")
    assert store.identity("a") == one
    assert store.write("a", random_masks(3, 9, 9, 0), "h") == one
    assert store.write("a", random_masks(3, 9, 9, 1), "h") != one
    assert store.write("a", random_masks(3, 9, 9, 0), "other image") != one


def test_other_image_or_settings_are_refused_with_the_command(tmp_path):
    store = MaskStore.create(tmp_path, HOW, downscale=2)
    store.write("a", random_masks(2, 8, 8, 0), "h")
    with pytest.raises(UserError, match=rf"another image .* ag2 prepare {tmp_path} --downscale-factor 2"):
        store.read("a", "other")
    with pytest.raises(UserError, match=r"no masks for this scene; make them with: ag2 prepare"):
        MaskStore.open(tmp_path)
    other = Manifest("superpixel", {"preset": "detail"})
    with pytest.raises(
        UserError, match=r"made by superpixel \(preset=default\), not superpixel \(preset=detail\); add --ov"
    ):
        MaskStore.create(tmp_path, other, downscale=2)
    renewed = MaskStore.create(tmp_path, other, downscale=2, renew=True)
    assert not renewed.has("a", "h") and store.has("a", "h")
    shutil.copy(store.path("a"), renewed.path("a"))
    with pytest.raises(UserError, match="made with other settings"):
        renewed.read("a")
    with pytest.raises(UserError, match="this view has no masks"):
        renewed.read("b")
    renewed.put_in_place()
    assert MaskStore.open(tmp_path, downscale=2).manifest == other


def test_options_do_not_invalidate(tmp_path):
    MaskStore.create(tmp_path, Manifest("sam", {"weights": "1"}, {"checkpoint": "old.pth"})).write(
        "a", random_masks(1, 4, 4, 0), "h"
    )
    moved = MaskStore.create(tmp_path, Manifest("sam", {"weights": "1"}, {"checkpoint": "new.pth"}))
    assert moved.has("a", "h")
    assert MaskStore.open(tmp_path).manifest.options == {"checkpoint": "new.pth"}


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "runs"])
def test_damaged_views_are_refused(tmp_path, damage):
    store = MaskStore.create(tmp_path, HOW)
    store.write("a", random_masks(2, 8, 8, 0), "h")
    path = store.path("a")
    if damage == "runs":
        with np.load(path) as file:
            arrays = dict(file)
        arrays["runs"][0, 2] = 200
        np.savez(path, **arrays)
    else:
        path.write_bytes({"cut": path.read_bytes()[:-60], "text": b"hello", "empty": b""}[damage])
    with pytest.raises(UserError, match="damaged"):
        store.read("a")
    if damage != "runs":
        assert not store.has("a")
    store.write("a", random_masks(2, 8, 8, 0), "h")
    assert len(store.read("a")) == 2


@pytest.mark.parametrize("content", ["{", "[]", '{"maker": "x"}', '{"maker": "x", "settings": {}, "format": 99}'])
def test_damaged_or_foreign_manifest(tmp_path, content):
    store = MaskStore.create(tmp_path, HOW)
    (store.folder / "manifest.json").write_text(content)
    with pytest.raises(UserError, match="--overwrite"):
        MaskStore.open(tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        MaskStore.create(tmp_path, HOW)
    MaskStore.create(tmp_path, HOW, renew=True).put_in_place()
    assert MaskStore.open(tmp_path).manifest == HOW


def test_disk_full_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    store = MaskStore.create(tmp_path, HOW)
    store.write("a", random_masks(2, 8, 8, 0), "h")
    before = sorted(p.name for p in store.folder.iterdir()), store.path("a").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full; free some space and run the same command again"):
        store.write("a", random_masks(4, 8, 8, 1), "h")
    with pytest.raises(UserError, match="the disk is full"):
        store.write("new", random_masks(4, 8, 8, 1), "h")
    assert before == (sorted(p.name for p in store.folder.iterdir()), store.path("a").read_bytes())


def test_left_over_temporary_files_are_no_views(tmp_path):
    store = MaskStore.create(tmp_path, HOW)
    (store.folder / ".tmp-abc.npz").write_bytes(b"half")
    assert store.stems() == []


def test_keys():
    data = Path("/scene")
    assert view_key("/scene/images/a.jpg", data) == "a"
    assert view_key("/scene/images_4/left/a.jpg", data) == "left/a"
    assert view_key("/scene/images/left/a.b.png", "/scene/transforms.json") == "left/a.b"
    assert view_key("/scene/photos/a.jpg", data) == "photos/a"
    outside = {view_key("/x/a.jpg", data), view_key("/y/a.jpg", data)}
    assert len(outside) == 2
    assert all(k.startswith("outside-") and ".." not in k for k in outside)
    assert view_key(Path(os.path.relpath("/scene/images/a.jpg")), data) == "a"
    assert data_folder(Path("/scene/transforms.json")) == data


def photograph(height: int = 240, width: int = 320) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(30, 226, (height // 8, width // 8, 3)).astype(np.uint8)
    return small.repeat(8, 0).repeat(8, 1)


def test_image_print_tells_images_apart():
    image = photograph()
    known = image_print(image)
    assert known == image_print(torch.from_numpy(image)) == image_print(np.asfortranarray(image))
    others = (np.roll(image, 2, axis=1), image[:, ::-1], image[:-8], image.swapaxes(0, 1), np.dstack([image, image]))
    assert not any(same_image(known, image_print(other)) for other in others)
    with pytest.raises(TypeError, match="uint8"):
        image_print(image.astype(np.float32))


def test_image_print_bears_another_processors_rounding():
    image = photograph()
    rounded = image.astype(int) + np.random.default_rng(1).integers(-1, 2, image.shape)
    known, again = image_print(image), image_print(rounded.clip(0, 255).astype(np.uint8))
    assert known != again and same_image(known, again)
    assert same_image(image_print(image[:3, :5]), image_print(image[:3, :5]))


def test_file_hash(tmp_path):
    path = tmp_path / "w.pth"
    path.write_bytes(os.urandom(3 << 20))
    first = file_hash(path)
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert file_hash(path) != first


def test_manifest_is_plain_json(tmp_path):
    store = MaskStore.create(tmp_path, HOW)
    content = json.loads((store.folder / "manifest.json").read_text())
    assert content == {
        "format": 2, "kind": "masks", "maker": "superpixel", "settings": {"preset": "default"},
        "options": {"preset": "default"},
    }  # fmt: skip
