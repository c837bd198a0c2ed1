"""Facts of scenes made of boxes with known names, colours and places: what sentences are solved on in tests."""

from __future__ import annotations

import numpy as np
import torch

from ag2_ns.core.view import View
from ag2_ns.ops.boxes import Box
from ag2_ns.perception.palette import BASIC
from ag2_ns.query.sentence.meaning import SceneWords
from ag2_ns.scene.geometry import Facts


def box_facts(boxes, samples=6):
    """Facts of boxes given as (colour, centre, size); the vertical is z."""
    points, colours = [], []
    for colour, centre, size in boxes:
        grid = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, samples)] * 3), -1).reshape(-1, 3)
        surface = grid[(np.abs(grid) > 0.49).any(1)]
        points.append(np.array(centre) + surface * np.array(size))
        colours.append([float(b == colour) for b in BASIC])
    low, high = (np.array([f(p, 0) for p in points]) for f in (np.min, np.max))
    solids = [Box((a + b) / 2, np.eye(3), b - a) for a, b in zip(low, high)]
    low, high = low.reshape(-1, 3), high.reshape(-1, 3)
    return Facts(tuple(range(len(boxes))), np.eye(3), points, low, high, solids, np.array(colours).reshape(-1, 11))


def named(facts, names):
    """Words of a scene whose things have exactly these names."""
    return SceneWords(facts.colours, tuple(names), np.eye(len(names)))


def camera(eye=(0.0, -5.0, 2.0), target=(0.0, 0.0, 0.0)):
    """A camera at a point that looks at another one; z is up."""
    eye, target = np.array(eye, float), np.array(target, float)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ eye
    K = np.array([[500.0, 0, 320], [0, 500, 240], [0, 0, 1]])
    return View(torch.tensor(pose).float(), torch.tensor(K).float(), 640, 480)


THINGS = [
    ("brown", (0, 0, -0.05), (4.0, 3.0, 0.1), "table"),
    ("red", (-1.0, 0.0, 0.1), (0.5, 0.4, 0.2), "red book"),
    ("blue", (1.0, 0.0, 0.1), (0.5, 0.4, 0.2), "blue book"),
    ("green", (-1.0, 0.0, 0.35), (0.2, 0.2, 0.3), "green mug"),
    ("red", (0.0, 0.0, 0.15), (0.2, 0.2, 0.3), "red mug"),
    ("white", (0.3, 1.0, 0.4), (0.3, 0.3, 0.8), "white lamp"),
    ("yellow", (1.7, -1.0, 0.1), (0.2, 0.2, 0.2), "yellow apple"),
]


def tabletop():
    """Facts, words and a camera in front (at negative y) of a laid table."""
    facts = box_facts([t[:3] for t in THINGS])
    return facts, named(facts, [t[3] for t in THINGS]), camera()
