"""
Runs the notebooks, each in an empty folder: `python notebooks/run.py [--write] [NAME ...]`.

The `.py` files are the sources. `--write` writes the `.ipynb` files with their outputs.
"""

import argparse
import base64
import io
import os
import re
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
import numpy as np
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
# The full size needs a GPU; the committed outputs of the others are those of the full size
WRITTEN_TINY = ("02_math_lora_one_gpu",)
# Messages of libraries about the machine
NOISE = re.compile(r".*(?:\[real_accelerator\.py|Failed to load CPU gemm_4bit_forward).*\n?")


def execute(source: Path, size: str) -> nbformat.NotebookNode:
    """
    Executes a notebook in a fresh kernel and a temporary folder.

    Args:
        source (`Path`): Notebook in jupytext's percent format.
        size (`str`): `"tiny"`, without network, or `"full"`.

    Returns:
        `NotebookNode`: The notebook with its outputs, without machine-specific parts.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    environment = {
        **os.environ,
        "ARCHER_NOTEBOOK_SIZE": size,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # no widgets here
    }
    if size == "tiny":
        environment |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=None, record_timing=False, coalesce_streams=True, resources={"metadata": {"path": folder}}
        )
        client.execute(env=environment)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
        cell.metadata.clear()
        if "outputs" in cell:
            cell.outputs = [output for output in map(without_noise, cell.outputs) if output.get("text") != ""]
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = smaller(png)
    del notebook.metadata["language_info"], notebook.metadata["jupytext"]
    return notebook


def without_noise(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An output without the lines that match `NOISE`."""
    if "text" in output:
        output["text"] = NOISE.sub("", output["text"])
    return output


def smaller(png: str) -> str:
    """
    A picture with 256 colors, a third of its size (base64 in and out).

    The most common colors, those with a meaning in a chart, do not change. A palette of means alone would turn orange
    into brown.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    pixels = np.asarray(picture)
    colors, place, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    most_common = colors[np.argsort(-counts, kind="stable")[:128]]
    means = np.array(picture.quantize(128).getpalette(), np.uint8).reshape(-1, 3)
    palette = np.concatenate([most_common, means])[:256]
    nearest = ((colors[:, None].astype(int) - palette) ** 2).sum(axis=-1).argmin(axis=1)
    small = Image.fromarray(nearest[place.ravel()].reshape(pixels.shape[:2]).astype(np.uint8))
    small.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    small.save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Runs the named notebooks, or all of them."""
    sources = {path.stem: path for path in sorted(FOLDER.glob("[0-9]*.py"))}
    parser = argparse.ArgumentParser(description="Runs the notebooks and fails with the first cell that fails.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(sources)}; default: all")
    parser.add_argument("--size", choices=("tiny", "full"), help="default: tiny; with --write, as committed")
    parser.add_argument("--write", action="store_true", help="write the .ipynb files with their outputs")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in sources]
    if unknown:
        parser.error(f"NAME={', '.join(unknown)} is not a notebook. Use one of {', '.join(sources)}.")
    for name in args.names or sources:
        size = args.size or ("full" if args.write and name not in WRITTEN_TINY else "tiny")
        print(f"{name} ({size}) ...", flush=True)
        start = time.monotonic()
        notebook = execute(sources[name], size)
        print(f"{name} ({size}) finished in {time.monotonic() - start:.0f} s", flush=True)
        if args.write:
            nbformat.write(notebook, sources[name].with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
