"""
What vLLM needs to take new weights on a machine without a GPU, and hence what these tests say nothing about.

- Repacked weights of CPU linear layers are replaced by `torch.nn.functional.linear`: not tested are vLLM's CPU kernels.
- The NCCL communicator of weight updates, by vLLM's own broadcast over a TCP store: NCCL, and copies between GPUs.
- CUDA streams of the packed broadcast, by none: the overlap of packing and sending.
- The index of the current accelerator, by 0: which GPU the weights leave from.
- TRL's refusal of a trainer on a CPU, by the device `cuda`, which goes unused: that refusal.

Weights are packed, announced, received, loaded and finalised by vLLM's and TRL's own code.
"""

from typing import Any

import torch


class StoreCommunicator:
    """A communicator of vLLM's weight updates, as far as the packed broadcast and TRL's client use one."""

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
    """A repacked weight is a copy that no update reaches; with tied embeddings it silently stays stale."""
    layer.cpu_linear = torch.nn.functional.linear


def install() -> None:
    """Replaces vLLM's functions; the entry point of the plugin."""
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
