"""A node of the instance tree by its number, and the steps from one node to those around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ag2_ns.core.answer import Answer, Candidate
from ag2_ns.core.errors import UserError
from ag2_ns.grouping.tree import InstanceTree
from ag2_ns.query.naming import name_of
from ag2_ns.query.query import Query
from ag2_ns.scene.scene import Scene


@dataclass(frozen=True)
class Node(Query):
    """The instance with a number, as `ag2 tree` prints it."""

    node: int

    def reply(self, scene: Scene, level: float | None) -> Answer:
        """All that hangs below the node, by its name.

        Raises:
            UserError: no such node.
        """
        index = scene.require_index()
        if not 0 <= self.node < index.tree.num_nodes:
            raise UserError(f"node {self.node}: give 0 to {index.tree.num_nodes - 1}; `ag2 tree` lists them")
        label = name_of(scene, self.node) or f"instance {self.node}"
        found = index.selection([self.node], label, 1.0, float(index.tree.level[self.node]))
        return Answer(found, (Candidate(label, 1.0, (self.node,)),))


def above(tree: InstanceTree, nodes: Sequence[int]) -> int:
    """The lowest node that holds all of some nodes and more.

    Raises:
        UserError: nothing holds more.
    """
    if not nodes:
        raise UserError("what is selected is no instance; click on a thing first")
    shared = set(tree.ancestors(nodes[0])).intersection(*(tree.ancestors(n) for n in nodes[1:]))
    shared -= set(nodes) if len(nodes) == 1 else set()
    if not shared:
        raise UserError("this is the largest instance here; nothing holds it")
    return max(shared)


def below(tree: InstanceTree, nodes: Sequence[int], towards: int | None = None) -> int:
    """A node directly below: on the way to `towards`, or else the largest.

    Raises:
        UserError: it has no parts.
    """
    if not nodes:
        raise UserError("what is selected is no instance; click on a thing first")
    parts = tree.children(nodes[0]).tolist()
    if not parts:
        raise UserError("this is the smallest instance here; it has no parts")
    if towards is not None:
        for part in parts:
            if part <= towards <= int(tree.last[part]):
                return part
    return max(parts, key=lambda part: int(tree.size[part]))
