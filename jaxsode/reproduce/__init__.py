"""The paper's tables and figures, a command each: `configs/paper/*.toml` in, ours beside the paper's out.

`rows` reads what a target is; `cells` keeps each number once it is computed; `compute` makes those that are
missing; `tables`, `curves`, `spectra`, `heatmaps` and `page` show them.
"""
