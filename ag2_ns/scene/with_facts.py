"""What is known of a scene's objects, found once when the scene is made instead of by the first sentence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.spatial import QhullError

from ag2_ns.scene.geometry import gather_facts, things_of
from ag2_ns.scene.scene import Scene

MOST = 300
"""Objects beyond which facts are left to whoever asks: distances go over all pairs."""


@torch.no_grad()
def with_facts(scene: Scene) -> Scene:
    """The scene with the facts of its objects; unchanged without instances, with too many, or with degenerate ones."""
    if scene.index is None:
        return scene
    nodes = things_of(scene.index.tree)
    if not 0 < len(nodes) <= MOST:
        return scene
    try:
        facts = gather_facts(scene.index, scene.gaussians, [v.view for v in scene.views], nodes=nodes)
        facts.to_dict()
    except (ValueError, ArithmeticError, QhullError, np.linalg.LinAlgError):
        return scene
    return replace(scene, facts=facts)
