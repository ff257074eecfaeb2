"""The quick answers about shapes are those of PyTorch's kernels on real numbers: size, type and order in memory."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from neocog.costs.shapes import _RULES, quick

aten = torch.ops.aten


def meta(*shape: int, dtype: torch.dtype = torch.float32, last: bool = False) -> Tensor:
    tensor = torch.empty(shape, dtype=dtype, device="meta")
    return tensor.contiguous(memory_format=torch.channels_last) if last else tensor


X, LAST, TOKENS = meta(2, 6, 9, 7), meta(2, 6, 9, 7, last=True), meta(2, 5, 8).transpose(1, 2)
UNARY = [op for op, rule in _RULES.items() if rule.__name__ in ("_same", "_itself", "_fresh")]
CALLS: list[tuple[Any, tuple[Any, ...]]] = [
    *((op, (x, *rest)) for op in UNARY for x in (X, LAST, TOKENS) for rest in [
        {"mul.Scalar": (2,), "add.Scalar": (2,), "pow.Tensor_Scalar": (2,), "_safe_softmax.default": (1,),
         "_softmax.default": (1, False)}.get(op.__name__, ())
    ]),
    *((op, pair) for op in (aten.add.Tensor, aten.mul.Tensor, aten.sub.Tensor, aten.div.Tensor) for pair in (
        (X, X), (LAST, X), (X, meta(6, 1, 1)), (meta(1, 6, 1, 1), LAST), (meta(7), X),
        (meta(2, 1, 9, 1), meta(6, 1, 7)), (X, 3.0), (TOKENS, TOKENS), (X[:, :, ::2], X[:, :, ::2]),
    )),
    (aten.mm.default, (meta(3, 4), meta(4, 5))), (aten.bmm.default, (meta(2, 3, 4), meta(2, 4, 5))),
    (aten.addmm.default, (meta(5), meta(3, 4), meta(4, 5))),
    *((aten.convolution.default, (x, meta(8, 6 // g, 3, 2), None, [2, 1], [1, 0], [1, 2], False, [0, 0], g))
      for x in (X, LAST) for g in (1, 2)),
    (aten.convolution.default, (meta(2, 4, 9), meta(5, 4, 3), None, [2], [1], [1], False, [0], 1)),
    *((aten.native_batch_norm.default, (x, None, None, meta(6), meta(6), train, 0.1, 1e-5))
      for x in (X, LAST) for train in (False, True)),
    *((aten.native_layer_norm.default, (x, [7], meta(7), meta(7), 1e-5)) for x in (X, X.transpose(1, 2))),
    *((aten.cat.default, ([X, X, meta(2, 1, 9, 7)], dim)) for dim in (1, -3)),
    (aten.stack.default, ([X, X], -1)), (aten.stack.default, ([X, X], 1)),
    (aten.mean.dim, (X, [2, 3])), (aten.mean.dim, (X, [-1], True)),
    (aten.linalg_vector_norm.default, (X, 2, [1], True)),
    (aten.upsample_bilinear2d.default, (X, [18, 14], False)),
    *((aten.max_pool2d_with_indices.default, (x, [3, 2], [3, 2], [1, 0], [1, 2], ceil))
      for x in (X, LAST) for ceil in (False, True)),
    (aten.max_pool2d_with_indices.default, (X, [3])),
    *((aten.avg_pool2d.default, (x, [3, 3], [3], [1], ceil)) for x in (X, LAST) for ceil in (False, True)),
    *((aten._adaptive_avg_pool2d.default, (x, [3, 2])) for x in (X, LAST)),
]  # fmt: skip


@pytest.mark.parametrize(("op", "args"), CALLS, ids=lambda value: getattr(value, "__name__", ""))
def test_quick_answers_are_pytorchs(op: Any, args: tuple[Any, ...]) -> None:
    real = pytree.tree_map_only(Tensor, lambda t: torch.empty_strided(t.shape, t.stride()).fill_(0.5), args)
    theirs = [t for t in pytree.tree_leaves(op(*real)) if isinstance(t, Tensor)]
    found = quick(op, args, {})
    assert found is not None
    ours = [t for t in pytree.tree_leaves(found) if isinstance(t, Tensor)]
    assert [(t.shape, t.dtype) for t in ours] == [(t.shape, t.dtype) for t in theirs]
    assert all(t.is_meta for t in ours)
    # Strides decide whether a later view copies; of kept statistics nobody takes a view.
    assert sorted_strides(ours[0]) == sorted_strides(theirs[0])


def sorted_strides(tensor: Tensor) -> tuple[int, ...]:
    """Dimensions of one element may have any stride."""
    return tuple(s for n, s in zip(tensor.shape, tensor.stride(), strict=True) if n > 1)


def test_every_rule_is_compared() -> None:
    assert {op for op, _ in CALLS} == set(_RULES)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        (aten.mm.default, (meta(3, 4), meta(5, 5))),
        (aten.addmm.default, (meta(7), meta(3, 4), meta(4, 5))),
        (aten.add.Tensor, (X, meta(5))),
        (aten.add.Tensor, (X, meta(7, dtype=torch.float64))),
        (aten.relu.default, (meta(3, dtype=torch.int64),)),
        (aten.convolution.default, (X, meta(8, 5, 3, 3), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)),
        (aten.convolution.default, (X, meta(8, 6, 11, 3), None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1)),
        (aten.cat.default, ([X, meta(2, 6, 9, 8)], 1)),
        (aten.max_pool2d_with_indices.default, (X, [11, 2], [1, 1])),
        (aten.native_batch_norm.default, (X, None, None, meta(5), meta(5), False, 0.1, 1e-5)),
    ],
)
def test_the_unusual_is_left_to_pytorch(op: Any, args: tuple[Any, ...]) -> None:
    assert quick(op, args, {}) is None
