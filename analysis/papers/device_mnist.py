"""The imperfections that matter most on digits, again on MNIST: one epoch, 312 steps.

Thermodynamic natural gradient descent at b = 32 (``mnist_runs`` says what is reduced), settling 50
tau, rate and damping the paper's. Three seeds, each on a device of its own (``device``).

    python -m analysis.papers.device_mnist --out analysis/papers/results/device_mnist.json
"""

from __future__ import annotations

from typing import Any

from analysis.papers import device, sweep
from analysis.papers.mnist_runs import REDUCED
from analysis.papers.record import save

SEEDS = (0, 1, 2)
STEPS, EVERY = 312, 52
MOST = ("mismatch", "offset", "full_scales")


def variants(steps: int, most: tuple[str, ...]) -> dict[str, sweep.Variant]:
    """Ideal, each alone, all."""
    base = {"training.steps": steps, "training.evaluate_every": EVERY, **REDUCED}
    fields = {"ideal": device.acting(), "realistic": device.lacking()}
    fields |= {name: device.acting(name) for name in most}
    fields["realistic, calibrated"] = device.lacking() | device.CALIBRATED
    return {name: sweep.Variant("mnist-tngd", base | own) for name, own in fields.items()}


def summarise(found: list[device.Row]) -> dict[str, Any]:
    """By variant: see ``device.compared``."""
    rows = device.by_variant(found)
    return {name: device.compared(mine, rows["ideal"]) for name, mine in rows.items()}


def main() -> None:
    """Run and write."""
    parser = sweep.parser(__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--most", nargs="+", default=MOST, help="imperfections")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many seeds")
    given = parser.parse_args()
    sides = variants(given.steps, tuple(given.most))
    found = device.rows(given, sides, range(given.seeds))
    setting = {"steps": given.steps, "most": list(given.most), **REDUCED}
    save(given.out, "device_mnist", setting, summarise(found), found)


if __name__ == "__main__":
    main()
