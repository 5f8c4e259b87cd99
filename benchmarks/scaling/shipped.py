"""Setups of the recipes that come with the package, on the hardware that their headers name."""

from pathlib import Path
from typing import Any

from trl_archer.commands.forecast.hardware import GPU, GPUS
from trl_archer.commands.forecast.models import MODELS
from trl_archer.commands.forecast.setup import SHARDING, Setup, accelerate_file, make_setup
from trl_archer.commands.recipes import FOLDERS
from trl_archer.commands.train.recipe import read_recipe

RECIPES = FOLDERS["recipes"]


def read_setup(recipe: Path, gpu: GPU) -> Setup:
    """
    The setup of a recipe, with the accelerate configuration that its header names.

    Args:
        recipe (`Path`): Recipe.
        gpu ([`GPU`]): Its GPUs.

    Returns:
        [`Setup`]: The setup.

    Raises:
        ValueError: If the shape of its model is unknown.
    """
    values: dict[str, Any] = read_recipe(recipe)
    shapes = {shape.name: shape for shape in MODELS.values()}
    if values["model_name_or_path"] not in shapes:
        raise ValueError(
            f"{recipe}: model_name_or_path={values['model_name_or_path']!r} has no known shape. Add it to `MODELS`."
        )
    sharding = SHARDING[accelerate_file(recipe) or "ddp"]
    return make_setup(shapes[values["model_name_or_path"]], gpu, values["num_processes"], sharding, values)


def gpu_of(recipe: Path) -> GPU:
    """The GPU in the header of a recipe: 80 GB, or an A10 with 24 GB."""
    return GPUS["a10"] if "24 GB" in recipe.read_text().split("\n\n")[0] else GPUS["h800"]
