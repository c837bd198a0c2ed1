"""`ag2 lift`: instances and language for a splat that exists already."""

from __future__ import annotations

from dataclasses import dataclass

from ag2_ns.plugin.lifting import LiftJob


@dataclass
class Lift(LiftJob):
    """Group a splat into anchors, lift the scene's masks, and write a run that every command opens.

    Takes a run of ag2aussian or splatfacto (--load-config), or a 3DGS .ply with its prepared scene (--ply --data).
    The splat itself is not changed.
    """

    def main(self) -> None:
        """Lift and report."""
        from ag2_ns.core.console import command_line, console

        out = console()
        path, pipeline, seconds = self.lift(out.print)
        scene = pipeline.live.scene()
        index = scene.require_index()
        out.print(
            f"{len(scene.gaussians):,} Gaussians, {index.num_anchors:,} anchors, "
            f"{len(index.tree.instances(0.5)):,} objects, "
            f"{'with' if index.has_language else 'without'} language; {seconds:.1f} s"
        )
        out.print(f"run        {path}")
        out.print(f"look       {command_line('ns-viewer', '--load-config', path)}")
        if index.has_language:
            text = scene.texts.example()
            ask = command_line("ag2", "query", "--load-config", path, "--text", text, "--output-dir", "query")
            out.print(f"ask        {ask}")
