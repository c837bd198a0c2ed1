"""Open a trained run of the feed-forward method."""

from __future__ import annotations

import pickle
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.core.errors import UserError, first_line

if TYPE_CHECKING:
    from ag2_ns.plugin.surround_model import GaussTRPipeline


def open_gausstr(config_path: Path, data: Path | None = None) -> GaussTRPipeline:
    """The pipeline of a run, ready to predict; what nerfstudio says meanwhile goes to standard error.

    Args:
        config_path: config.yml, or its folder.
        data: drives to predict for, in place of those trained on.

    Raises:
        UserError: no such file, a run of another method, or no usable checkpoint.
    """
    from nerfstudio.utils.eval_utils import eval_setup

    from ag2_ns.plugin.gausstr import GaussTRTrainerConfig
    from ag2_ns.plugin.run import read_config
    from ag2_ns.splat.checkpoint import newest_checkpoint, refuse_truncated

    config_path = Path(config_path)
    config_path = config_path / "config.yml" if config_path.is_dir() else config_path
    config = read_config(config_path)
    if not isinstance(config, GaussTRTrainerConfig):
        raise UserError(
            f"{config_path}: a run of {config.method_name}, not of gausstr; train one with ns-train gausstr"
        )
    folder = config_path.parent / config.relative_model_dir
    newest = newest_checkpoint(folder)
    if newest is None:
        raise UserError(f"{folder}: no checkpoint there; train again, or give the config.yml of another run")
    refuse_truncated(newest)

    def found(config: GaussTRTrainerConfig) -> GaussTRTrainerConfig:
        config.found_in = config_path.parent
        if data is not None:
            config.pipeline.datamanager.data = Path(data)
        return config

    try:
        with redirect_stdout(sys.stderr):
            return eval_setup(config_path, test_mode="test", update_config_callback=found)[1]
    except (EOFError, RuntimeError, OSError, KeyError, AssertionError, pickle.UnpicklingError) as error:
        raise UserError(f"{config_path}: the run cannot be loaded ({first_line(error)})") from error
