"""
Stand-ins that let vLLM take new weights on a machine without a GPU. The tests do not cover what they replace.

| replaced | by | not tested |
|---|---|---|
| repacked weights of CPU linear layers | `torch.nn.functional.linear` | vLLM's CPU kernels |
| NCCL communicator of weight updates | vLLM's own broadcast over a TCP store | NCCL, copies between GPUs |
| CUDA streams of the packed broadcast | no stream | overlap of packing and sending |
| index of the current accelerator | 0 | the choice of the sending GPU |
| TRL's refusal of a trainer on a CPU | the device `cuda`, which is never used | that refusal |

vLLM's and TRL's own code packs, announces, receives, loads and finalizes the weights.
"""

from typing import Any

import torch


class StoreCommunicator:
    """The part of vLLM's weight-update communicator that the packed broadcast and TRL's client use."""

    def __init__(self, master_address: str, master_port: int, rank: int, world_size: int, device: Any):
        from vllm.distributed.utils import StatelessProcessGroup

        self.group = StatelessProcessGroup.create(master_address, master_port, rank, world_size)

    def broadcast(self, tensor: torch.Tensor, src: int, stream: Any = None) -> None:
        received = self.group.broadcast(tensor, src)
        if self.group.rank != src:
            tensor.copy_(received)


class NoStream:
    def synchronize(self) -> None:
        pass


def keep_weights_unpacked(layer: torch.nn.Module, remove_weight: bool) -> None:
    """Updates do not reach a repacked copy; with tied embeddings it silently stays outdated."""
    layer.cpu_linear = torch.nn.functional.linear


def install() -> None:
    """Replaces vLLM's functions. The entry point of the plugin."""
    from vllm.distributed.weight_transfer import nccl_common, packed_tensor
    from vllm.model_executor.layers import utils

    utils.dispatch_cpu_unquantized_gemm = keep_weights_unpacked
    nccl_common.stateless_init_process_group = StoreCommunicator
    packed_tensor._get_streams = lambda device_idx, num_buffers: (NoStream(),) * num_buffers
    torch.accelerator.current_device_index = lambda: 0


def install_in_trainer() -> None:
    """Also lets TRL's client send the weights of a trainer on a CPU."""
    from trl.generation.vllm_client import VLLMClient

    install()
    init_communicator = VLLMClient.init_communicator
    VLLMClient.init_communicator = lambda self, device=0: init_communicator(self, torch.device("cuda"))
