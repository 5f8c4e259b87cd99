"""Shapes of the models, from their public configurations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """
    A decoder of the Qwen family.

    Args:
        name (`str`): Repository on the Hub.
        family (`str`): `"qwen2"`, `"qwen3"` or `"qwen3_moe"`, the `model_type` of its configuration.
        layers, hidden, heads, kv_heads, head_dim, intermediate, vocabulary (`int`): Sizes. For a mixture of
            experts, `intermediate` is the size of one expert.
        tied (`bool`): Whether the LM head shares the weights of the embedding.
        experts, experts_per_token (`int`, *optional*, defaults to 0): Experts of each layer; 0 for a dense model.
    """

    name: str
    family: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    tied: bool
    experts: int = 0
    experts_per_token: int = 0

    @property
    def query(self) -> int:
        """Width of the queries, heads x head_dim."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of the keys, and of the values."""
        return self.kv_heads * self.head_dim

    @property
    def attention_matrices(self) -> int:
        return 2 * self.hidden * (self.query + self.keys)

    @property
    def expert(self) -> int:
        """Weights of one expert, or of the MLP of a dense layer."""
        return 3 * self.hidden * self.intermediate

    @property
    def layer(self) -> int:
        """Weights of one layer."""
        norms = 2 * self.hidden
        if self.family == "qwen2":
            norms += self.query + 2 * self.keys  # biases of queries, keys and values
        else:
            norms += 2 * self.head_dim  # norms of queries and keys
        return self.attention_matrices + norms + self.expert * max(1, self.experts) + self.hidden * self.experts

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.hidden

    @property
    def linear(self) -> int:
        """Weights of a dense model's linear layers without the LM head, which bitsandbytes quantizes."""
        return self.layers * (self.attention_matrices + self.expert)

    @property
    def kv_bytes(self) -> int:
        """Bytes of the KV cache per token, in 16 bits."""
        return self.layers * 2 * self.keys * 2

    def lora(self, rank: int) -> int:
        """Weights of an adapter on all linear layers; experts are not `nn.Linear` and get none."""
        widths = 2 * (self.hidden + self.query) + 2 * (self.hidden + self.keys)
        if not self.experts:
            widths += 3 * (self.hidden + self.intermediate)
        return self.layers * rank * widths


_R1 = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
MODELS = {
    "r1-distill-qwen-1.5b": Shape(_R1, "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, tied=False),
    "qwen3-4b": Shape("Qwen/Qwen3-4B", "qwen3", 36, 2560, 32, 8, 128, 9728, 151936, tied=True),
    "qwen3-8b": Shape("Qwen/Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, tied=False),
    "qwen3-30b-a3b": Shape("Qwen/Qwen3-30B-A3B", "qwen3_moe", 48, 2048, 32, 4, 128, 768, 151936, False, 128, 8),
    "qwen2.5-0.5b": Shape("Qwen/Qwen2.5-0.5B-Instruct", "qwen2", 24, 896, 14, 2, 64, 4864, 151936, tied=True),
    "qwen2.5-1.5b": Shape("Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 28, 1536, 12, 2, 128, 8960, 151936, tied=True),
    "qwen2.5-7b": Shape("Qwen/Qwen2.5-7B-Instruct", "qwen2", 28, 3584, 28, 4, 128, 18944, 152064, tied=False),
}
PAPER = ("r1-distill-qwen-1.5b", "qwen3-4b", "qwen3-8b", "qwen3-30b-a3b")
