"""
Runs the notebooks from top to bottom, each in an empty folder: `python notebooks/run.py [--write] [NAME ...]`.

The `.py` files are the source; `--write` makes the `.ipynb` files beside them, outputs included.
"""

import argparse
import base64
import io
import os
import tempfile
import time
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

FOLDER = Path(__file__).parent
# What a CPU can do: the committed outputs of the others are those of the full size
WRITTEN_TINY = ("02_math_lora_one_gpu",)


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
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                output["data"]["image/png"] = smaller(png)
    del notebook.metadata["language_info"], notebook.metadata["jupytext"]
    return notebook


def smaller(png: str) -> str:
    """A picture with 64 colours, which is a third of its size and looks the same on a chart (base64 in and out)."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(64).save(buffer, format="png", optimize=True)
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
