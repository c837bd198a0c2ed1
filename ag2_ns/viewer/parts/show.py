"""The panel's folder that says how a selection is shown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ag2_ns.viewer.elements import Element, Field
from ag2_ns.viewer.parts.part import Part

if TYPE_CHECKING:
    from ag2_ns.language.vocabulary import Vocabulary
    from ag2_ns.scene.scene import Scene
    from ag2_ns.viewer.panel import Panel


class Show(Part):
    """The overlay, and the graph as a layer in three dimensions."""

    title = "Show"

    def __init__(self, panel: Panel) -> None:
        super().__init__(panel)
        self._switched = False
        self.overlay = Field(
            "checkbox",
            "Overlay",
            True,
            panel.refresh,
            hint="Output type selection_overlay while something is selected",
        )
        self.graph = Field(
            "checkbox", "Graph", False, panel.refresh, hint="The selection's anchors and the edges between them"
        )

        self.names = Field(
            "checkbox", "Labels", False, panel.refresh, hint="What `ag2 name` calls the objects, at each"
        )
        self._named: tuple[Vocabulary | None, bool] = (None, False)

    def elements(self) -> Sequence[Element]:
        """From top to bottom."""
        return (self.overlay, self.graph, self.names)

    def follow(self) -> None:
        """Change the output type to the overlay while something is selected; show or hide the graph."""
        panel, state = self.panel, self.panel.session.state
        if not state.empty and self.overlay.value:
            self._switched = panel.host.show_output("selection_overlay", instead_of="rgb") or self._switched
        elif self._switched:
            panel.host.show_output("rgb", instead_of="selection_overlay")
            self._switched = False
        scene = panel.session.scene()
        shown = scene.index is not None and not state.empty and self.graph.value
        size = 0.004 * scene.extent
        panel.layers.show_anchors(scene.index, state.selection.anchor_mask if shown else None, size)
        wanted = (scene.vocabulary, self.names.value)
        if wanted[0] is not self._named[0] or wanted[1] != self._named[1]:
            self._named = wanted
            panel.layers.show_names(object_names(scene) if self.names.value else ())


def object_names(scene: Scene) -> list[tuple[str, tuple[float, float, float]]]:
    """What each object is called, and its middle, scene units; nothing without names."""
    if scene.index is None or scene.vocabulary is None:
        return []
    node, means = scene.index.gaussian_node(0.5), scene.gaussians.means
    called = [(n, scene.vocabulary.name_of(n)) for n in scene.index.tree.instances(0.5).tolist()]
    middle = [(word, means[node == n]) for n, word in called if word is not None]
    return [(word, tuple(points.median(0).values.tolist())) for word, points in middle if len(points)]
