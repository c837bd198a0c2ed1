"""Replacing masks and features: what is in use stays whole until what replaces it is."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
import torch
from bad_scenes import transforms_scene
from stand_ins import Halves, Means

from ag2_ns.cli.main import main
from ag2_ns.core.errors import UserError
from ag2_ns.io.feature_store import FeatureStore
from ag2_ns.io.mask_store import MaskStore
from ag2_ns.io.view_masks import ViewMasks
from ag2_ns.perception.prepare import ImageView, prepare_views

pytestmark = pytest.mark.usefixtures("colours_only")


class Quarters(Halves):
    """Other masks: the upper left quarter."""

    name = "quarters"

    def segment(self, image, image_name):
        masks = super().segment(image, image_name)
        return type(masks).from_dense(masks.dense()[:1] & (torch.arange(image.shape[0]) < 6)[:, None])


class Breaks:
    """A maker that fails at one view."""

    breaks_at = "v4"

    def segment(self, image, image_name):
        if image_name == self.breaks_at:
            raise UserError("broken; mend it")
        return super().segment(image, image_name)

    def encode_image(self, image, masks, image_name):
        if image_name == self.breaks_at:
            raise UserError("broken; mend it")
        return super().encode_image(image, masks, image_name)


class BreakingQuarters(Breaks, Quarters):
    pass


class BreakingMeans(Breaks, Means):
    pass


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    return [ImageView(f"v{k}", rng.integers(1, 256, (12, 16, 3), dtype=np.uint8)) for k in range(7)]


def files(folder):
    return {
        p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file() and "renewed" not in p.parts
    }


def usable(data, views):
    """Every view's masks with features that belong to them; their number."""
    store = ViewMasks.open(data)
    return sum(len(store.get(v.name, lambda v=v: v.image).features) for v in views)


def test_a_failed_renewal_leaves_what_was_there(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    before = files(tmp_path)
    for segmenter, encoder in (
        (BreakingQuarters(), Means()),
        (Quarters(), BreakingMeans()),
        (Halves(), BreakingMeans(version=2)),
        (BreakingQuarters(), None),
    ):
        with pytest.raises(UserError, match="broken"):
            prepare_views(views, segmenter, encoder, tmp_path, overwrite=True)
        assert files(tmp_path) == before
    assert usable(tmp_path, views) == 14


def test_a_renewal_goes_on_where_it_failed_and_leaves_nothing_behind(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    with pytest.raises(UserError, match="broken"):
        prepare_views(views, BreakingQuarters(), Means(version=2), tmp_path, overwrite=True)
    segmenter = Quarters()
    summary = prepare_views(views, segmenter, Means(version=2), tmp_path, overwrite=True)
    assert segmenter.seen == ["v4", "v5", "v6"] and summary.in_use
    assert usable(tmp_path, views) == 7
    assert sorted(p.name for p in (tmp_path / "ag2" / "x1").iterdir()) == ["features", "masks"]
    assert prepare_views(views, Quarters(), Means(version=2), tmp_path).skipped == 7


def test_features_that_fail_leave_masks_without_features_in_use(tmp_path, views):
    prepare_views(views, Halves(), None, tmp_path)
    with pytest.raises(UserError, match="broken"):
        prepare_views(views, Halves(), BreakingMeans(), tmp_path)
    assert not FeatureStore.exists(tmp_path)
    assert ViewMasks.open(tmp_path).get("v6", lambda: views[6].image).features is None
    encoder = Means()
    assert prepare_views(views, Halves(), encoder, tmp_path).encoded == 3 and encoder.seen == ["v4", "v5", "v6"]
    assert usable(tmp_path, views) == 14


def test_features_that_fail_leave_a_view_as_it_was(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    before = files(tmp_path)
    views[4] = ImageView("v4", 255 - views[4].image)
    with pytest.raises(UserError, match="broken"):
        prepare_views(views, Halves(), BreakingMeans(), tmp_path)
    assert files(tmp_path) == before


def test_a_first_attempt_that_made_nothing_is_in_nobodys_way(tmp_path, views):
    breaking = BreakingQuarters()
    breaking.breaks_at = "v0"
    with pytest.raises(UserError, match="broken"):
        prepare_views(views, breaking, Means(), tmp_path)
    assert prepare_views(views, Halves(), Means(version=2), tmp_path).segmented == 7


def test_another_encoder_does_not_run_the_segmenter_again(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    with pytest.raises(UserError, match=r"--overwrite to replace it \(the masks stay\)"):
        prepare_views(views, Halves(), Means(version=2), tmp_path)
    segmenter, encoder = Halves(), Means(version=2)
    summary = prepare_views(views, segmenter, encoder, tmp_path, overwrite=True)
    assert segmenter.seen == [] and len(encoder.seen) == 7
    assert (summary.segmented, summary.encoded) == (0, 7)
    assert FeatureStore.open(tmp_path).manifest.settings == {"version": 2} and usable(tmp_path, views) == 14
    # The first features of a scene are another encoder's, too.
    shutil.rmtree(FeatureStore.locate(tmp_path))
    assert prepare_views(views, Halves(), Means(), tmp_path, overwrite=True).segmented == 0


def test_shards_replace_together(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    first = prepare_views(views, Quarters(), Means(), tmp_path, overwrite=True, shard=(1, 2))
    assert not first.in_use and usable(tmp_path, views) == 14
    last = prepare_views(views, Quarters(), Means(), tmp_path, overwrite=True, shard=(2, 2))
    assert last.in_use and usable(tmp_path, views) == 7
    segmenter = Quarters()
    for i in (1, 2):
        prepare_views(views, segmenter, Means(version=2), tmp_path, overwrite=True, shard=(i, 2))
    assert segmenter.seen == [] and usable(tmp_path, views) == 7


def test_new_masks_without_features_do_not_keep_the_old_features(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    summary = prepare_views(views, Quarters(), None, tmp_path, overwrite=True)
    assert summary.removed and summary.orphaned == 7 and not FeatureStore.exists(tmp_path)
    assert ViewMasks.open(tmp_path).get("v0", lambda: views[0].image).features is None


def test_the_same_masks_without_an_encoder_keep_their_features(tmp_path, views):
    prepare_views(views, Halves(), Means(), tmp_path)
    summary = prepare_views(views, Halves(), None, tmp_path, overwrite=True)
    assert summary.segmented == 7 and not summary.removed and usable(tmp_path, views) == 14
    views[3] = ImageView("v3", 255 - views[3].image)
    summary = prepare_views(views, Halves(), None, tmp_path)
    assert (summary.segmented, summary.orphaned, summary.removed) == (1, 1, False)


def test_what_the_command_says(tmp_path, capsys):
    scene = str(transforms_scene(tmp_path / "s", views=3))
    main(["prepare", scene])
    main(["prepare", scene, "--encoder", "none", "--preset", "coarse", "--overwrite"])
    said = " ".join(capsys.readouterr().out.split())
    assert "features of the earlier masks were removed" in said
    before = files(tmp_path)
    with pytest.raises(SystemExit):
        main(["prepare", scene, "--segmenter", "sam", "--sam-checkpoint", str(tmp_path / "none.pth"), "--overwrite"])
    with pytest.raises(SystemExit):
        main(["prepare", scene, "--encoder", "nothing", "--overwrite"])
    assert files(tmp_path) == before
    main(["prepare", scene, "--preset", "coarse", "--overwrite", "--shard", "1/2"])
    assert "0 segmented, 2 encoded" in " ".join(capsys.readouterr().out.split())
    main(["prepare", scene, "--preset", "detail", "--overwrite", "--shard", "1/2"])
    said = " ".join(capsys.readouterr().out.split())
    assert "stays in use until the other shards are done" in said and "a renewal that was stopped" not in said
    main(["prepare", scene, "--preset", "coarse"])
    said = " ".join(capsys.readouterr().out.split())
    assert f"{scene}/ag2/x1/renewed: a renewal that was stopped" in said
    main(["prepare", scene, "--preset", "detail", "--overwrite"])
    assert "a renewal that was stopped" not in " ".join(capsys.readouterr().out.split())


def test_a_store_that_cannot_be_replaced_is_kept(tmp_path, views, monkeypatch):
    from ag2_ns.io import exchange

    prepare_views(views, Halves(), None, tmp_path)
    rename, place = exchange.os.rename, MaskStore.locate(tmp_path)

    def refuse(old, new):
        if new == place and ".new" in str(old):
            raise OSError(13, "Permission denied")
        rename(old, new)

    monkeypatch.setattr(exchange.os, "rename", refuse)
    with pytest.raises(UserError, match="masks: cannot be replaced"):
        prepare_views(views, Quarters(), None, tmp_path, overwrite=True)
    assert len(MaskStore.open(tmp_path).read("v0")) == 2
    monkeypatch.undo()
    assert prepare_views(views, Quarters(), None, tmp_path, overwrite=True).segmented == 0
    assert len(MaskStore.open(tmp_path).read("v0")) == 1


@pytest.mark.parametrize("renames", [1, 2])
def test_a_run_killed_while_folders_change_places_loses_nothing(tmp_path, views, monkeypatch, renames):
    from ag2_ns.io import exchange

    prepare_views(views, Halves(), None, tmp_path)
    rename, left = exchange.os.rename, [renames]

    def killed(old, new):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        rename(old, new)

    monkeypatch.setattr(exchange.os, "rename", killed)
    monkeypatch.setattr(exchange.os, "getpid", lambda: 2**22 + 1)  # of a process that is no more
    with pytest.raises(KeyboardInterrupt):
        prepare_views(views, Quarters(), None, tmp_path, overwrite=True)
    monkeypatch.undo()
    where = MaskStore.locate(tmp_path)
    assert where.exists() == (renames == 1)
    exchange.mend(where)
    assert len(MaskStore.open(tmp_path).read("v0")) == (2 if renames == 1 else 1)
    done = prepare_views(views, Quarters(), None, tmp_path, overwrite=True)
    assert done.segmented == (0 if renames == 1 else len(views))
    assert len(MaskStore.open(tmp_path).read("v0")) == 1
    assert sorted(p.name for p in where.parent.iterdir()) == ["masks"]


@pytest.mark.parametrize("encoder", [None, Means()])
def test_shards_that_overwrite_nothing_make_one_store(tmp_path, views, encoder):
    done = [prepare_views(views, Halves(), encoder, tmp_path, overwrite=True, shard=(i, 2)) for i in (1, 2)]
    assert all(d.in_use for d in done) and sum(d.segmented for d in done) == len(views)
    stores = [MaskStore] if encoder is None else [MaskStore, FeatureStore]
    assert all(kind.open(tmp_path).holds(view.name for view in views) for kind in stores)
    assert not (MaskStore.locate(tmp_path).parent / "renewed").exists()


def test_what_a_killed_run_of_the_same_number_left_is_taken_up(tmp_path, views):
    prepare_views(views, Halves(), None, tmp_path)
    where = MaskStore.locate(tmp_path)
    where.rename(where.parent / f".old-masks-{os.getpid()}")  # containers give every run the same number
    (where.parent / ".old-masks-backup").mkdir()
    assert prepare_views(views, Halves(), None, tmp_path).segmented == 0
    assert (where.parent / ".old-masks-backup").exists()
