"""GPUs and nodes, by their data sheets. Bandwidths are one way and per GPU, bytes per second; peaks are dense bf16."""

from dataclasses import dataclass

GIB = 2**30


@dataclass(frozen=True)
class GPU:
    """
    A GPU and its links.

    Args:
        name (`str`): Name.
        memory (`int`): Bytes.
        flops (`float`): Peak of bf16 matrix products without sparsity, per second.
        bandwidth (`float`): Of its memory.
        nvlink (`float`): To the other GPUs of the node.
        network (`float`): To other nodes.
    """

    name: str
    memory: int
    flops: float
    bandwidth: float
    nvlink: float
    network: float


# 400 Gbit/s of InfiniBand per GPU (NDR) with H100 and H800, 200 (HDR) with A100, as in NVIDIA's DGX systems of each
# generation (DGX H100 and DGX A100 data sheets). NVLink is stated there as the sum of both directions; here it is half.
GPUS = {
    # NVIDIA H100 data sheet, SXM: 1,979 TFLOPS with sparsity, half of it without; 3.35 TB/s; NVLink 900 GB/s
    "h100": GPU("H100 80 GB", 80 * GIB, 989e12, 3.35e12, 450e9, 50e9),
    # As H100, with NVLink at 400 GB/s: DeepSeek-V3 technical report (arXiv 2412.19437), 3.2.2, on its H800 nodes: 160
    # GB/s of NVLink that can be used one way, 50 GB/s of InfiniBand
    "h800": GPU("H800 80 GB", 80 * GIB, 989e12, 3.35e12, 200e9, 50e9),
    # NVIDIA A100 80 GB data sheet, SXM: 312 TFLOPS; 2,039 GB/s; NVLink 600 GB/s
    "a100": GPU("A100 80 GB", 80 * GIB, 312e12, 2.039e12, 300e9, 25e9),
    # NVIDIA A10 data sheet: 125 TFLOPS; 600 GB/s; PCIe 4.0 x16 only, 64 GB/s both ways
    "a10": GPU("A10 24 GB", 24 * GIB, 125e12, 0.6e12, 32e9, 12.5e9),
}
