"""What a run leaves behind: heat maps, metrics.json, a table; in a folder that is whole or not there."""

from jaxsode.report.output import check_output, whole_folder, write_json
from jaxsode.report.panels import CLAMP, COLOUR_MAPS, cubehelix, jet, panel, write_panel
from jaxsode.report.tables import METRICS, flatten, summarise, table

__all__ = [
    "CLAMP",
    "COLOUR_MAPS",
    "METRICS",
    "check_output",
    "cubehelix",
    "flatten",
    "jet",
    "panel",
    "summarise",
    "table",
    "whole_folder",
    "write_json",
    "write_panel",
]
