"""Studies: one file of recipes, changes and seeds; runs side by side, tables, figures."""
