"""Entry point of the `ag2` command: one subcommand per job."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import tyro

from ag2_ns.core.errors import UserError
from ag2_ns.core.garbage import collect_less

COMMANDS = {
    "demo": "ag2_ns.plugin.main_job:Demo",
    "example": "ag2_ns.cli.example:Example",
    "prepare": "ag2_ns.plugin.prepare:Prepare",
    "train": "ag2_ns.plugin.train:Train",
    "undistort": "ag2_ns.cli.undistort:Undistort",
    "lift": "ag2_ns.cli.lift:Lift",
    "name": "ag2_ns.cli.name:Name",
    "points": "ag2_ns.cli.points:Points",
    "smap": "ag2_ns.cli.smap:Smap",
    "view": "ag2_ns.cli.view:View",
    "query": "ag2_ns.cli.query:Query",
    "tree": "ag2_ns.cli.tree:Tree",
    "edit": "ag2_ns.cli.edit:Edit",
    "render": "ag2_ns.cli.render:Render",
    "export": "ag2_ns.cli.export:Export",
    "eval": "ag2_ns.cli.evaluate:Eval",
    "occupancy": "ag2_ns.cli.occupancy:Occupancy",
    "refer-train": "ag2_ns.cli.refer_train:ReferTrain",
}
"""Subcommand to the dataclass that holds its options and has a `main`."""


def _load(target: str) -> type:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)


def main(args: list[str] | None = None) -> None:
    """Run one subcommand; a `UserError` becomes one line and exit status 1."""
    args = sys.argv[1:] if args is None else args
    collect_less()
    try:
        job_of(args).main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # of `ag2 … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more on its way out
        raise SystemExit(141) from None


def job_of(args: list[str]) -> Any:
    """The subcommand with its options. Only what is asked for is imported: the rest waits for torch's extensions."""
    if args[:1] == ["train"] and args[1:2] not in ([], ["--help"], ["-h"]):
        return _load(COMMANDS["train"])(tuple(args[1:]))  # reads the method's options itself
    wanted = [args[0]] if args and args[0] in COMMANDS else list(COMMANDS)
    subcommands = {name: _load(COMMANDS[name]) for name in wanted}
    return tyro.extras.subcommand_cli_from_dict(
        subcommands, prog="ag2", args=args, description="Anchor-graph Gaussian splatting, beside nerfstudio's commands."
    )


if __name__ == "__main__":
    main()
