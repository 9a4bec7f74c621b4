"""The projections of ``nn.MultiheadAttention``, which torch computes without calling a layer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from hybridsim.tasks.training import with_names

Seen = Callable[[Tensor, Tensor, Tensor], None]
"""Told of a projection: its weight (m, n), its inputs (b, R, n), its outputs (b, R, m)."""


class Projections(TorchFunctionMode):
    """While it is entered, attention runs torch's own code, and each of its projections is seen.

    Attributes:
        crossed: told of the packed weight of attention whose query, key and value are not one
            tensor, before it runs.
    """

    def __init__(self, seen: Seen, crossed: Callable[[Tensor], None]) -> None:
        super().__init__()
        self._seen, self.crossed = seen, crossed

    def __torch_function__(  # Any: whatever torch calls
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func is F.multi_head_attention_forward:
            query, key, value, *_ = args
            if query is not key or key is not value:
                self.crossed(args[5])
            linear = partial(self._linear, query)
            packed = with_names(vars(F)["_in_projection_packed"], linear=linear)
            func = with_names(func, linear=linear, _in_projection_packed=packed)
        return func(*args, **(kwargs or {}))

    def _linear(self, query: Tensor, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A projection of x (R, b, n) or (R b, n) where the query is (R, b, E).

        Inputs and outputs are seen through views with examples first, so that slopes come so too.
        """
        z = F.linear(x, weight, bias)
        if query.ndim != 3:  # one example without a batch, which is refused
            self._seen(weight, x, z)
            return z
        places = query.shape[:2]
        turned = z.view(*places, -1).transpose(0, 1)
        self._seen(weight, x.reshape(*places, -1).transpose(0, 1), turned)
        return turned.transpose(0, 1).view(z.shape)
