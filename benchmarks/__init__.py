"""What we claim, measured: each module writes a JSON file under `results/`; `render` makes the tables from them."""
