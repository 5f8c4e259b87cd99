"""The memory of GPUs."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class GPU:
    """
    A GPU.

    Args:
        name (`str`): Name.
        memory (`int`): Bytes.
    """

    name: str
    memory: int


GPUS = {
    "h100": GPU("H100 80 GB", 80 * GIB),
    "h800": GPU("H800 80 GB", 80 * GIB),
    "a100": GPU("A100 80 GB", 80 * GIB),
    "a10": GPU("A10 24 GB", 24 * GIB),
}
