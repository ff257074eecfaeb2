"""Multi-head attention: every token asks all tokens, in several small spaces at once, and takes what fits.

Each token makes a query, a key and a value. A head compares the queries with the keys; the softmax of the
comparisons, divided by sqrt(D / heads) so that it does not saturate in wide spaces, says how much of which
value a token receives.

Paper: Vaswani et al., "Attention Is All You Need", NeurIPS 2017, arXiv:1706.03762, section 3.2. Queries, keys
and values come from one matrix product, and the projections have biases as in the vision transformer.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class MultiHeadAttention(nn.Module):
    """(B, N, D) -> the same shape, D = `width`. Rows of `qkv.weight`: all queries, all keys, all values, each
    one head after the other. ValueError where the heads do not divide the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads = {heads} do not divide width = {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        # (B, N, 3 * D) -> (3, B, heads, N, D / heads)
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(q, k, v)  # (B, heads, N, D / heads)
        mixed: Tensor = self.proj(out.transpose(1, 2).flatten(2))
        return mixed

    def extra_repr(self) -> str:
        return f"heads={self.heads}"
