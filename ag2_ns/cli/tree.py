"""`ag2 tree`: the instances of a scene as a tree of groups, objects and parts."""

from __future__ import annotations

import json
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ag2_ns.cli.picking import Opened
from ag2_ns.core.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.tree import Tree as Drawn

    from ag2_ns.query.hierarchy import NodeInfo


@dataclass
class Tree(Opened):
    """Print the instance tree: what each node is called, at which levels it is an instance, and how large it is.

    A number in brackets is a node; `--level` of the other commands chooses between a part, its object and their group.
    """

    _: KW_ONLY
    json: bool = False
    """Print JSON in place of the tree."""
    output_dir: Path | None = None
    """Also write tree.json and tree.png, a sheet of pictures with the levels side by side."""
    levels: tuple[float, ...] = (0.0, 0.5, 1.0)
    """Levels on the sheet: 0 parts, 0.5 objects, 1 groups."""
    views: int = 3
    """Rows of the sheet: views, evenly spread over the capture."""
    vocabulary: tuple[str, ...] = ()
    """Words that name nodes, beside those that the scene knows."""
    smallest: int = 0
    """Leave out nodes of fewer Gaussians."""

    def main(self) -> None:
        """Print and write."""
        from ag2_ns.core.console import console
        from ag2_ns.io.atomic import require_writable
        from ag2_ns.query.hierarchy import describe_tree

        if self.views < 1 or not self.levels or any(not 0 <= level <= 1 for level in self.levels):
            raise UserError("--levels takes numbers from 0 (parts) to 1 (groups), --views at least 1")
        if self.output_dir is not None:
            require_writable(self.output_dir)
        scene = self.open(edits=False)
        nodes = [n for n in describe_tree(scene, self.vocabulary) if n.gaussians >= self.smallest]
        content = {"frame": "run", "nodes": [n.to_json() for n in nodes]}
        out = console()
        if self.json:
            print(json.dumps(content))
        else:
            for root in drawn(nodes):
                out.print(root)
            kinds = [n.kind for n in nodes]
            out.print(", ".join(f"{kinds.count(k)} {k}s" for k in ("group", "object", "part")))
        if self.output_dir is not None:
            self._write(scene, nodes, content)
            if not self.json:
                out.print(f"{self.output_dir / 'tree.json'}\n{self.output_dir / 'tree.png'}")

    def _write(self, scene, nodes: Sequence[NodeInfo], content: dict) -> None:
        from ag2_ns.cli.query import spread
        from ag2_ns.export.tree_sheet import tree_rows
        from ag2_ns.io.atomic import write_atomic
        from ag2_ns.rendering.sheet import contact_sheet

        write_atomic(self.output_dir / "tree.json", (json.dumps(content, indent=1) + "\n").encode())
        views = spread(scene.of_split("train") or list(scene.views), self.views)
        names = {n.node: n.name for n in nodes if n.name is not None}
        rows = tree_rows(scene, [v.view for v in views], self.levels, names)
        kinds = {0.0: "parts", 0.5: "objects", 1.0: "groups"}
        heads = ["picture", *(f"level {v:g}" + (f", {kinds[v]}" if v in kinds else "") for v in self.levels)]
        contact_sheet(self.output_dir / "tree.png", rows, heads, [v.name for v in views])


def drawn(nodes: Sequence[NodeInfo]) -> list[Drawn]:
    """The roots, largest first, as trees to print."""
    from rich.text import Text
    from rich.tree import Tree as Drawn

    known = {n.node: n for n in nodes}

    def line(n: NodeInfo) -> Text:
        style = {"object": "bold", "part": "dim", "group": "italic"}[n.kind]
        low, high = n.level
        about = f"  {n.kind}, level {low:.2f} to {min(high, 1.0):.2f}, {n.gaussians:,} Gaussians, {n.views:.0f} views"
        return Text.assemble((n.name or f"instance {n.node}", style), f" [{n.node}]", (about, "dim"))

    def grow(into: Drawn, n: NodeInfo) -> None:
        below = sorted((known[c] for c in n.children if c in known), key=lambda c: -c.gaussians)
        for child in below:
            grow(into.add(line(child)), child)

    out = []
    for root in sorted((n for n in nodes if n.parent not in known), key=lambda n: -n.gaussians):
        tree = Drawn(line(root), guide_style="dim")
        grow(tree, root)
        out.append(tree)
    return out
