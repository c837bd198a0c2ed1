"""`ag2 points`: what a point cloud holds, and pictures of it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass
class Points:
    """Say what a point cloud holds, and draw it from above, and in the pictures where a calibration is given.

    Also converts: --write turns any format that is read into a .ply.
    """

    cloud: tyro.conf.Positional[Path]
    """.ply, .pcd, .bin (nuScenes, KITTI), .las, .laz, .npz, .pth (OpenScene) or text."""
    _: KW_ONLY
    data: Path | None = None
    """Calibration of its cameras: says how many points each sees, and draws them there."""
    labels: Path | None = None
    """Classes of the points: SemanticKITTI .label, nuScenes _lidarseg.bin or .npy."""
    scene: Path | None = None
    """A scene lifted from this cloud (scene.safetensors): points are coloured by its instances, and named."""
    unit: Literal["m", "cm", "mm", "ft"] = "m"
    """Of its coordinates."""
    output_dir: Path | None = None
    """Where above.png and cameras.png go; without it nothing is drawn."""
    write: Path | None = None
    """A .ply to write the points to, with colours and labels."""

    def main(self) -> None:
        """Read, report, draw."""
        import numpy as np

        from ag2_ns.core.console import console
        from ag2_ns.io.atomic import require_writable, write_png
        from ag2_ns.io.calibration import read_rig
        from ag2_ns.io.points import read_cloud, read_labels
        from ag2_ns.rendering.points import camera_pictures, from_above, instance_colours, plain_colours
        from ag2_ns.scene.points import check_rig

        out = console()
        rig = None if self.data is None else read_rig(self.data).scaled(800)
        cloud = read_cloud(self.cloud, self.unit)
        labels = cloud.label if self.labels is None else read_labels(self.labels, cloud)
        low, high = cloud.xyz.min(0), cloud.xyz.max(0)
        has = [
            n for n, v in (("colours", cloud.rgb), ("intensity", cloud.intensity), ("labels", labels)) if v is not None
        ]
        out.print(
            f"{self.cloud}: {len(cloud):,} points"
            + (f", {cloud.dropped:,} left out (not finite)" if cloud.dropped else "")
        )
        out.print(f"from       {low[0]:.2f} {low[1]:.2f} {low[2]:.2f} m")
        out.print(f"to         {high[0]:.2f} {high[1]:.2f} {high[2]:.2f} m; 98 % within {cloud.extent:.1f} m")
        out.print(f"with       {', '.join(has) or 'coordinates only'}")
        if labels is not None:
            ids, count = np.unique(labels, return_counts=True)
            out.print(f"labels     {', '.join(f'{i} ({c:,})' for i, c in zip(ids.tolist(), count.tolist()))}")
        node, names = (None, None) if self.scene is None else self._instances(len(cloud))
        colours = plain_colours(cloud) if node is None else instance_colours(node)
        if rig is not None:
            check_rig(cloud, rig)
        if self.output_dir is not None:
            require_writable(self.output_dir)
            write_png(self.output_dir / "above.png", from_above(cloud, colours, node, names))
            out.print(f"above      {self.output_dir / 'above.png'}")
            if rig is not None:
                picture, seen = camera_pictures(cloud, rig, colours)
                write_png(self.output_dir / "cameras.png", picture)
                out.print(f"cameras    {self.output_dir / 'cameras.png'}: {', '.join(f'{n} {k:,}' for n, k in seen)}")
        if self.write is not None:
            from ag2_ns.io.points import write_cloud

            write_cloud(self.write, cloud, labels)
            out.print(f"written    {self.write}")

    def _instances(self, count: int):
        """The instance of each point and the names of instances, from a lifted scene."""
        import ag2_ns
        from ag2_ns.core.errors import UserError

        scene = ag2_ns.open(self.scene, "cpu", False)
        if len(scene.gaussians) != count:
            raise UserError(
                f"{self.scene}: has {len(scene.gaussians):,} points, the cloud {count:,}; name the scene of this cloud"
            )
        node = scene.require_index().gaussian_node(0.5).numpy()
        names = (
            {} if scene.vocabulary is None else {n: scene.vocabulary.name_of(n) for n in set(node.tolist()) if n >= 0}
        )
        return node, {n: w for n, w in names.items() if w}
