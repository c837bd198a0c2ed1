"""`ag2 train`: what ns-train does, for the methods of this package, without importing those of all others first."""

from __future__ import annotations

import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro

from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig


@dataclass
class Train:
    """Train a method of this package as ns-train does, with the same options, but start in half the time.

    The method comes first: `ag2 train ag2aussian --data SCENE`; `ag2 train ag2aussian --help` lists its options.
    """

    arguments: tyro.conf.Positional[tuple[str, ...]] = ()
    """METHOD, then the options of ns-train."""

    def main(self) -> None:
        """Train.

        Raises:
            UserError: no method of this package, or what training fails on.
        """
        known = methods()
        if not self.arguments or self.arguments[0] not in known:
            asked = " ".join(("ag2 train", *self.arguments[:1]))
            raise UserError(f"{asked}: name a method first, one of {', '.join(known)}; ns-train knows the others")
        name, *options = self.arguments
        config = _read(name, known[name], options)
        if config.machine.num_devices * config.machine.num_machines > 1:
            from nerfstudio.scripts.train import main

            main(config)
        else:
            _train(config)


def methods() -> dict[str, str]:
    """The methods of this package that nerfstudio finds, and where each lies ("module:name")."""
    import os
    from importlib.metadata import entry_points

    named = [(entry.name, entry.value) for entry in entry_points(group="nerfstudio.method_configs")]
    given = os.environ.get("NERFSTUDIO_METHOD_CONFIGS", "")
    named += [tuple(each.split("=", 1)) for each in given.split(",") if "=" in each]
    return {name: where for name, where in named if where.startswith("ag2_ns.")}


def seed(number: int) -> None:
    """Seed all that draws, as nerfstudio does."""
    import numpy as np
    import torch

    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)


def _read(name: str, where: str, options: list[str]) -> TrainerConfig:
    """The method's configuration with these options."""
    from importlib import import_module

    import torch

    from ag2_ns.plugin.compat import compile_when_called

    if not any(option == "cpu" or "num-devices" in option for option in options):
        threading.Thread(target=_wake_device, daemon=True).start()  # meanwhile
    module, attribute = where.split(":")
    with compile_when_called():
        config = getattr(import_module(module), attribute).config
    torch.backends.cudnn.benchmark = True
    tyro.extras.set_accent_color("bright_yellow")
    markers = (tyro.conf.SuppressFixed, tyro.conf.FlagConversionOff)
    return tyro.cli(type(config), default=config, args=options, prog=f"ag2 train {name}", config=markers)


def _wake_device() -> None:
    """Make the CUDA context, which takes a while."""
    import torch

    with suppress(RuntimeError):  # which training will say better
        if torch.cuda.is_available():
            torch.zeros(1, device="cuda")


def _train(config: TrainerConfig) -> None:
    """Train on one device."""
    from nerfstudio.utils import profiler

    if config.data:
        config.pipeline.datamanager.data = config.data
    if config.load_config:
        from ag2_ns.plugin.run import read_config

        config = read_config(config.load_config)
    config.set_timestamp()
    config.print_to_terminal()
    config.save_config()
    seed(config.machine.seed)
    trainer = config.setup(local_rank=0, world_size=1)
    try:
        trainer.setup()
        trainer.train()
    finally:
        profiler.flush_profiler(config.logging)
