"""Registration of the dataparser; apart from the method's, because nerfstudio's imports would go round in circles."""

from __future__ import annotations

from nerfstudio.plugins.registry_dataparser import DataParserSpecification

from ag2_ns.plugin.dataparser import AG2DataParserConfig

ag2_data = DataParserSpecification(
    config=AG2DataParserConfig(), description="transforms.json, COLMAP and AG2aussian / LERF folders."
)
