"""Configurations with a `section`, and what of them a scene stores."""

from __future__ import annotations

from dataclasses import fields
from typing import Any


def own_settings(config: Any) -> dict[str, Any]:
    """The fields of a configuration that differ from their defaults."""
    return {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}


def changed_settings(*configs: Any) -> dict[str, dict[str, Any]]:
    """What differs from the defaults in some configurations, by section, as a scene stores it."""
    return {c.section: own for c in configs if (own := own_settings(c))}
