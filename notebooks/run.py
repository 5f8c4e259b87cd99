"""
Runs the notebooks from top to bottom, each in an empty folder: `python notebooks/run.py [--write] [NAME ...]`.

The `.py` files are the source; `--write` makes the `.ipynb` files beside them, outputs included.
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
# What a CPU can do: the committed outputs of the others are those of the full size
WRITTEN_TINY = ("02_math_lora_one_gpu",)
# What libraries say about the machine they were imported on
NOISE = re.compile(r".*(?:\[real_accelerator\.py|Failed to load CPU gemm_4bit_forward).*\n?")


def execute(source: Path, size: str) -> nbformat.NotebookNode:
    """
    Executes a notebook in a fresh kernel and a temporary folder.

    Args:
        source (`Path`): Notebook in jupytext's percent format.
        size (`str`): `"tiny"`, which may not use the network, or `"full"`.

    Returns:
        `NotebookNode`: The notebook with its outputs, without anything that differs from machine to machine.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    environment = {
        **os.environ,
        "ARCHER_NOTEBOOK_SIZE": size,
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore:IProgress not found",  # there is nobody to show widgets to
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
    """An output of a cell without the lines of `NOISE`."""
    if "text" in output:
        output["text"] = NOISE.sub("", output["text"])
    return output


def smaller(png: str) -> str:
    """
    A picture with 256 colours, a third of its size (base64 in and out).

    The commonest colours, which are those that a chart gives a meaning to, stay as they are; a palette of means alone
    turns the orange of a title brown.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    pixels = np.asarray(picture)
    colours, place, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_inverse=True, return_counts=True)
    commonest = colours[np.argsort(-counts, kind="stable")[:128]]
    means = np.array(picture.quantize(128).getpalette(), np.uint8).reshape(-1, 3)
    palette = np.concatenate([commonest, means])[:256]
    nearest = ((colours[:, None].astype(int) - palette) ** 2).sum(axis=-1).argmin(axis=1)
    small = Image.fromarray(nearest[place.ravel()].reshape(pixels.shape[:2]).astype(np.uint8))
    small.putpalette(palette.tobytes())
    buffer = io.BytesIO()
    small.save(buffer, format="png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Runs what the command line names, in the order of the files."""
    sources = {path.stem: path for path in sorted(FOLDER.glob("[0-9]*.py"))}
    parser = argparse.ArgumentParser(description="Runs the notebooks to the end; fails with the first cell that fails.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which, of {', '.join(sources)}; all if left out")
    parser.add_argument("--size", choices=("tiny", "full"), help="tiny if left out; with --write, as committed")
    parser.add_argument("--write", action="store_true", help="write the .ipynb files with their outputs")
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in sources]
    if unknown:
        parser.error(f"there is no notebook {', '.join(unknown)}; there are {', '.join(sources)}")
    for name in args.names or sources:
        size = args.size or ("full" if args.write and name not in WRITTEN_TINY else "tiny")
        print(f"{name} ({size}) ...", flush=True)
        start = time.monotonic()
        notebook = execute(sources[name], size)
        print(f"{name} ({size}) ran to the end in {time.monotonic() - start:.0f} s", flush=True)
        if args.write:
            nbformat.write(notebook, sources[name].with_suffix(".ipynb"))


if __name__ == "__main__":
    main()
