"""The forward pass of training, for networks that compute otherwise there than in evaluation:
BatchNorm, dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.overrides import TorchFunctionMode

from hybridsim.rng import Draw

Buffers = dict[str, Tensor]
"""By name. Running statistics, mostly."""


class Training(NamedTuple):
    """What a network does in training that it does not in evaluation.

    Attributes:
        buffers: names of those that a forward pass changes (BatchNorm: running_mean, running_var,
            num_batches_tracked).
        what: the difference in words.
    """

    buffers: tuple[str, ...]
    what: str


class Pass(NamedTuple):
    """A forward pass in training: outputs, the buffers after it, whether masks were drawn."""

    z: Tensor
    buffers: Buffers
    drew: bool


def forward(
    network: nn.Module,
    parameters: Mapping[str, Tensor],
    buffers: Mapping[str, Tensor],
    x: Tensor,
    draw: Draw,
) -> Pass:
    """A forward pass as after ``nn.Module.train()``, without a trace in the network.

    BatchNorm normalises by the statistics of the x at hand and moves its running ones, ``buffers``,
    which are copied. Dropout's masks come from one generator seeded by ``draw.seed``, in the order
    of the calls, for the whole batch that x is a share of: those that torch draws after
    ``torch.manual_seed(draw.seed)`` on the whole batch, where what is dropped from is contiguous
    (else torch fills its masks in the order of memory, which shares need not have in common).

    Args:
        network: in evaluation mode, which it returns to.
        parameters: by name; what is not named is the network's own.
        buffers: by name, those that the pass may change.
        x: inputs (b, ...), examples ``draw.first``... of a batch of ``draw.total``.
        draw: what masks are drawn for.

    Raises:
        ValueError: a mask for a share of a batch whose first dimension does not count examples.
    """
    # tensors without numbers are a count's own: as on a GPU, nothing is copied
    moved = {name: b if b.is_meta else b.clone() for name, b in buffers.items()}
    tensors = {f"network.{name}": tensor for name, tensor in (*parameters.items(), *moved.items())}
    masks = _Masks(draw, len(x))
    network.train()
    try:
        with masks:
            z, after = functional_call(_Recorded(network, tuple(moved)), tensors, (x,))
    finally:
        network.eval()
    return Pass(z, {name: buffer.detach() for name, buffer in after.items()}, masks.drew)


def moves(network: nn.Module, x: Tensor) -> bool:
    """Whether a forward pass in training draws masks or writes into buffers, found on shapes alone.

    BatchNorm shows by its count of batches.
    """
    buffers = dict(network.named_buffers())
    versions = {name: buffer._version for name, buffer in buffers.items()}
    with torch.no_grad():
        done = forward(network, {}, buffers, x, Draw(0, 0, len(x)))
    return done.drew or any(done.buffers[n]._version != v for n, v in versions.items())


def with_names(func: Callable[..., Any], **ours: Any) -> Callable[..., Any]:  # Any: torch's own
    """A function of torch.nn.functional in which some names of that module stand for ours."""
    assert isinstance(func, FunctionType)
    found = FunctionType(func.__code__, vars(F) | ours, argdefs=func.__defaults__)
    found.__kwdefaults__ = func.__kwdefaults__
    return found


class _Recorded(nn.Module):
    """A network that also gives its buffers as they are afterwards, moved or replaced."""

    def __init__(self, network: nn.Module, buffers: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.buffer_names = network, buffers

    def forward(self, x: Tensor) -> tuple[Tensor, Buffers]:
        z = self.network(x)
        return z, {name: self.network.get_buffer(name) for name in self.buffer_names}


_DROPOUTS: dict[Callable[..., Tensor], int | None] = {
    F.dropout: None,
    F.dropout1d: 3,
    F.dropout2d: 3,
    F.dropout3d: 5,
}
"""Those that drop whole channels, with the fewest dimensions at which they do, the second being the
channel; with fewer they drop whole entries of the first. None: every element alone.
"""


class _Masks(TorchFunctionMode):
    """Dropout, attention's too, with masks of its own: of a share of a batch, the whole batch's.

    Attributes:
        drew: whether there was a mask to draw.
    """

    def __init__(self, draw: Draw, size: int) -> None:
        super().__init__()
        self.drew = False
        self._draw, self._size = draw, size
        self._generator: torch.Generator | None = None

    def __torch_function__(  # Any: whatever torch calls
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _DROPOUTS:
            return self._dropout(func, *args, **(kwargs or {}))
        if func is F.scaled_dot_product_attention:
            return self._attention(*args, **(kwargs or {}))
        if func is F.multi_head_attention_forward:  # torch does not look inside it
            func = with_names(
                func,
                dropout=partial(self._dropout, F.dropout),
                scaled_dot_product_attention=self._attention,
            )
        return func(*args, **(kwargs or {}))

    def _dropout(
        self,
        func: Callable[..., Tensor],
        x: Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> Tensor:
        if not training or p == 0:
            return func(x, p, training, inplace)
        self.drew = True
        if x.is_meta:  # one kernel forward and one backward, as on a GPU, which draws its own share
            return torch.native_dropout(x, p, True)[0]
        channels = _DROPOUTS[func]
        own = x.ndim if channels is None else 2 if x.ndim >= channels else 1
        mask = self._mask(x, (*x.shape[:own], *(1 for _ in x.shape[own:])), 1 - p)
        return x.mul_(mask) if inplace else x * mask

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """dropout(softmax(Q Kᵀ/√E + mask)) V, in the steps of torch's reference."""
        if dropout_p == 0 or enable_gqa:
            attention: Tensor = F.scaled_dot_product_attention(
                query, key, value, attn_mask, dropout_p, is_causal, scale=scale,
                enable_gqa=enable_gqa,
            )  # fmt: skip
            return attention
        root = (query.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
        scores = (query * root) @ (key.mT * root)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -torch.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        weights: Tensor = torch.ops.aten._safe_softmax(scores, -1)  # 0 where nothing is attended
        return self._dropout(F.dropout, weights, dropout_p) @ value

    def _mask(self, x: Tensor, shape: tuple[int, ...], keep: float) -> Tensor:
        """Zeros, and 1/keep with probability ``keep``."""
        draw, rows, first = self._draw, shape[0], 0
        if draw.total != self._size:
            per_example, rest = divmod(shape[0], self._size)
            if rest:
                raise ValueError(
                    f"dropout of shape {tuple(x.shape)} in a share of {self._size} of "
                    f"{draw.total} examples: its first dimension must count examples"
                )
            rows, first = per_example * draw.total, per_example * draw.first
        if self._generator is None:
            self._generator = torch.Generator(x.device).manual_seed(draw.seed)
        whole = x.new_empty(rows, *shape[1:]).bernoulli_(keep, generator=self._generator)
        return whole[first : first + shape[0]].div(keep or 1.0)
