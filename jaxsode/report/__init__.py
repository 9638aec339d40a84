"""What a run leaves behind: heat maps, metrics.json, a table; in a folder that is whole or not there."""

from jaxsode.report.output import SCHEMA, Output, read_json, write, write_json
from jaxsode.report.panels import (
    CLAMP,
    COLOUR_MAPS,
    beside,
    cubehelix,
    heat_map,
    jet,
    outlined,
    panel,
    write_panel,
)
from jaxsode.report.sweeps import as_csv, as_markdown
from jaxsode.report.tables import METRICS, flatten, summarise, table

__all__ = [
    "CLAMP",
    "COLOUR_MAPS",
    "METRICS",
    "SCHEMA",
    "Output",
    "as_csv",
    "as_markdown",
    "beside",
    "cubehelix",
    "flatten",
    "heat_map",
    "jet",
    "outlined",
    "panel",
    "read_json",
    "summarise",
    "table",
    "write",
    "write_json",
    "write_panel",
]
