"""The inverse of a Kronecker factor from samples of a device's noise (TKFAC, arXiv 2502.08603, method 1)."""

from __future__ import annotations

from torch import Tensor

from hybridsim.outcome import Outcome


def covariance(*samples: Tensor, kappa0: float) -> Outcome:
    """A⁻¹ (n, n) as Σ x xᵀ/(S kappa0) over samples x ~ N(0, kappa0 A⁻¹); their mean is known to be zero.

    Args:
        samples: (n, S_i), as they came from one device or several; S = Σ S_i.
        kappa0: noise strength > 0, dimensionless.

    Raises:
        ValueError: no samples.
    """
    if not samples:
        raise ValueError("expected samples, got none")
    first, *others = (part @ part.T for part in samples)
    count = sum(part.shape[1] for part in samples)
    return Outcome(sum(others, first) / (count * kappa0))
