"""Proof that no linear solver runs: a mode that refuses every kernel which solves, inverts or
fits."""

from __future__ import annotations

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

FORBIDDEN = frozenset(
    {
        "_linalg_solve_ex",
        "linalg_solve",
        "linalg_solve_ex",
        "linalg_inv",
        "linalg_inv_ex",
        "inverse",
        "linalg_pinv",
        "pinverse",
        "linalg_lstsq",
        "lstsq",
        "cholesky_solve",
        "_cholesky_solve_helper",
        "cholesky_inverse",
        "lu_solve",
        "linalg_lu_solve",
        "linalg_ldl_solve",
        "triangular_solve",
        "linalg_solve_triangular",
        "linalg_tensorinv",
        "linalg_tensorsolve",
    }
)


class SolverUsed(AssertionError):
    """A forbidden kernel was called."""


class NoSolver(TorchDispatchMode):
    """``with NoSolver(): ...`` raises :class:`SolverUsed` at the first linear solve or inverse."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket.__name__ in FORBIDDEN:
            raise SolverUsed(f"expected no linear solver, got {func}")
        return func(*args, **(kwargs or {}))
