"""Arrays as a device builds them: one (``built_dense``) or two (``built_roots``), in integrators.

The circuit. Node i is an amplifier whose feedback is the capacitor C; all its resistors end in its
inverting input: the array's, driven by the outputs x_j (or their inverted copies), damping, and the
input's. With the amplifier's gain A(s), 1/A = 1/A0 + s τ_a in units of RC, g_i = sum_j |G_ij| + λ_i
+ 1 (the input resistor R) and c_i = C_i/C:

    s (c_i (1 + 1/A0) + g_i τ_a + s c_i τ_a) x_i = -((G + λ + g/A0) x - b)_i + g_i v_os,i x_fs

So finite gain is a leak g_i/A0, bandwidth a slower start and a ringing, and an input offset v_os
drives all the conductance that hangs on its node. Rows are divided by d_i⁻¹ = c_i (1 + 1/A0) + g_i
τ_a; what is left of the lag, c_i d_i τ_a, is taken alike for all nodes at its largest.

Before two arrays, u = X x comes from amplifiers with a feedback resistor, of noise gain n_k = 1 +
sum_j |X_kj| x_fs/u_fs: u_k (1 + n_k/A0 + s n_k τ_a) = (X x)_k + n_k v_os,k u_fs. Their full scale
is fixed when they are programmed, so that u cannot clip before x does. Their lag, the largest, is
taken to delay the damping as well.

Johnson noise (D in units of kT/C x_fs²/V_fs²): g_i at node i, and through Xᵀ what the r amplifiers
put out. Every part has a relative error of its own (``Device.mismatch``): all entries, damping and
input resistors, capacitors. Entries whose conductance would be below the smallest are off. Where
one would be above the largest, all that end in integrators are scaled down by s, which takes s
times as long.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hybridsim.circuits import dense, roots
from hybridsim.circuits.eigenbasis import Loop, eigenbasis
from hybridsim.circuits.imperfections.device import Device
from hybridsim.circuits.imperfections.nodes import Nodes
from hybridsim.circuits.load import Load
from hybridsim.circuits.modal import check_finite
from hybridsim.circuits.noise import Noise
from hybridsim.circuits.rails import Stage
from hybridsim.circuits.realised import Realised


class _Integrators(Nodes):
    """Nodes that are amplifiers, with a capacitor for feedback."""

    def slowdown(self, largest: float) -> float:
        """How much smaller (>= 1) conductances that end in integrators have to be."""
        return max(1.0, max(largest, self.nominal) / self.device.largest_conductance)

    def array(self, entries: Tensor, name: str, unit: float) -> Tensor:
        """Entries with a conductance of ``unit`` times their size, as they are built."""
        off = entries.abs() * unit < self.device.smallest_conductance
        return torch.where(off, 0.0, entries * self.relative(name, *entries.shape))

    def system(
        self,
        array: Tensor,
        sums: Tensor,
        stages: dict[str, Stage],
        largest: dict[str, Tensor],
        slowdown: float,
        parts: Load,
        *,
        before: tuple[Tensor, Tensor, float] | None = None,
    ) -> Realised:
        """Integrators around an array (n, n) whose conductances add up to ``sums`` (n,) at each
        node; ``before``: offset drive (n,), noise (n, n) and lag of a stage before it.
        """
        device, alive = self.device, self.alive
        leak = (sums + self.damping + 1) / device.gain
        slow = (sums + self.damping + 1) / slowdown * device.amplifier_tau
        d = 1 / (self.capacitors * (1 + 1 / device.gain) + slow)
        matrix = d[:, None] * (array + torch.diag(self.damping + leak))
        basis = eigenbasis(matrix)
        lags = [device.amplifier_tau * float((self.capacitors * d).amax())]
        offset = (sums + self.damping) * self.offsets
        noise = torch.diag(d.square() * (sums + self.damping) * alive)
        if before is not None:
            offset, lag = offset + before[0] * alive, before[2]
            noise = noise + (d * alive)[:, None] * before[1] * (d * alive)
            lags.append(lag)
        slowed = tuple(lag / slowdown for lag in lags) if device.amplifier_tau > 0 else ()
        every = Noise(device.thermal, noise, d * offset, (d * alive).square(), d * self.offsets)
        stages["damping"] = Stage(self.damping)
        largest = largest | {"damping": d.new_tensor(self.nominal)}
        fixed = {
            name: value if name == "j_array" else value / slowdown
            for name, value in largest.items()
        }
        loop = Loop.of(basis.rates, slowed)
        return Realised(basis, loop, d * self.input, every, stages, fixed, slowdown, parts)


def built_dense(matrix: Tensor, damping: float, device: Device) -> Realised:
    """A = matrix + damping · I in one array; O(n³) once per upload.

    Args:
        matrix: what the array is to hold (n, n) float64.
        damping: λ, dimensionless.
        device: what its parts are like.

    Raises:
        HybridsimError: the matrix or the damping is not finite.
    """
    check_finite("a finite matrix and damping", matrix, damping)
    nodes = _Integrators(len(matrix), damping, device)
    largest = matrix.abs().amax()
    slowdown = nodes.slowdown(float(largest))
    held = nodes.array(matrix, "array", 1 / slowdown) * nodes.alive * nodes.alive[:, None]
    magnitudes = held.abs()
    stages = {"array": Stage(magnitudes.sum(dim=0))}
    parts = dense.load(len(matrix))
    return nodes.system(held, magnitudes.sum(dim=1), stages, {"array": largest}, slowdown, parts)


def built_roots(rows: Tensor, damping: float, device: Device) -> Realised:
    """A = XᵀX + damping · I in two arrays, X driven by x and Xᵀ by u; O(n² (n + r)) once.

    Args:
        rows: X (r, n) float64.
        damping: λ, dimensionless.
        device: what its parts are like; X and Xᵀ are two sets of them.

    Raises:
        HybridsimError: X or the damping is not finite.
    """
    check_finite("finite rows and damping", rows, damping)
    count, size = rows.shape
    nodes = _Integrators(size, damping, device)
    ratio = gain_above(float(rows.abs().sum(dim=1).amax()), device.gain_step)
    largest = rows.abs().amax()
    slowdown = nodes.slowdown(float(largest) * ratio)
    own = 1 / max(1.0, float(largest) / device.largest_conductance)
    driven = nodes.array(rows, "array", own) * nodes.alive
    back = nodes.array(rows, "transposed array", ratio / slowdown) * nodes.alive
    sums = driven.abs().sum(dim=1)
    noise_gain = 1 + sums / ratio
    gain = 1 / (1 + noise_gain / device.gain)
    driven = gain[:, None] * driven
    offsets = gain * noise_gain * device.offset * nodes.part("offset before", count)
    through = gain[:, None] * back
    before = (
        -ratio * (back.T @ offsets),
        through.T @ ((sums + ratio)[:, None] * through),
        device.amplifier_tau * float((gain * noise_gain).amax()),
    )
    stages = {
        "j_array": Stage(driven.abs().sum(dim=0)),
        "jt_array": Stage(back.abs().sum(dim=1), driven, ratio),
        "feedback_u": Stage(torch.ones_like(sums), driven, ratio),
    }
    held = {"j_array": largest * own, "jt_array": largest * ratio}
    weights = ratio * back.abs().sum(dim=0)
    parts = roots.load(count, size)
    return nodes.system(back.T @ driven, weights, stages, held, slowdown, parts, before=before)


def gain_above(value: float, step: float) -> float:
    """The smallest power of ``step`` that is not below; 1 for 0."""
    if value <= 0:
        return 1.0
    return value if step <= 1 else step ** math.ceil(math.log(value) / math.log(step) - 1e-9)
