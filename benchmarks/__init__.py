"""Measures what we claim: each module writes a JSON file to `results/`, and `render` makes tables from these files."""
