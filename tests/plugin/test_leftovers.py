"""What a training that cannot load leaves behind, and nerfstudio's exports that no splat can answer."""

import pytest
from bad_scenes import transforms_scene
from lens_scene import LENSES, retake, save, straight_scene

from ag2_ns.core.errors import UserError
from ag2_ns.plugin.datamanager import AG2DataManagerConfig
from ag2_ns.plugin.dataparser import AG2DataParserConfig
from ag2_ns.plugin.methods import ag2aussian_small
from ag2_ns.plugin.trainer import AG2Trainer


def test_a_training_that_cannot_load_leaves_no_folder(tmp_path):
    """A picture is lost between the look at the scene and its loading."""
    from copy import deepcopy

    scene = transforms_scene(tmp_path / "s")
    config = deepcopy(ag2aussian_small.config)
    config.data = config.pipeline.datamanager.data = scene
    config.output_dir, config.vis, config.machine.device_type = tmp_path / "out", "tensorboard", "cpu"
    config.set_timestamp()
    config.save_config()
    assert (config.get_base_dir() / "config.yml").is_file()
    (scene / "images/view_03.png").write_bytes(b"damaged")
    trainer = AG2Trainer(config)
    with pytest.raises(UserError, match=r"view_03\.png: not a readable image"):
        trainer.setup()
    assert not config.get_base_dir().exists() and not any((tmp_path / "out").rglob("*"))


def test_a_lens_that_nobody_can_undo_is_refused_before_anything_is_written(tmp_path):
    from copy import deepcopy

    scene, meta = straight_scene(tmp_path / "s")
    retake(scene, 0, "OPENCV")
    meta["frames"][0] |= {"k1": -9.0}
    assert "OPENCV" in LENSES
    config = deepcopy(ag2aussian_small.config)
    config.data = config.pipeline.datamanager.data = save(scene, meta)
    config.output_dir, config.machine.device_type = tmp_path / "out", "cpu"
    config.set_timestamp()
    with pytest.raises(UserError, match=r"view_00\.png: its lens .* folds the picture .*colmap image_undistorter"):
        config.save_config()
    assert not (tmp_path / "out").exists()


def test_exports_that_cast_rays_say_what_works(tmp_path):
    scene = transforms_scene(tmp_path / "s")
    config = AG2DataManagerConfig(data=scene, dataparser=AG2DataParserConfig())
    manager = config.setup(device="cpu", test_mode="val")
    with pytest.raises(UserError, match=r"ns-export gaussian-splat.*ag2 export --all --format anchors"):
        _ = manager.train_pixel_sampler
    assert not hasattr(manager, "no_such_thing")
