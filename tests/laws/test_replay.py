"""Replay equals live, whatever field of the scenario is changed: keys miss nothing that matters,
facts suffice."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import simulate
from programs import PROGRAMS, changed
from ruamel.yaml import YAML

import hybridsim
from hybridsim.errors import InputError

CHOICES: dict[str, list[Any]] = {
    "name": ["another name"],
    "workload.source": ["digits_cnn"],
    "machine.constants": ["paper", "optimistic"],
    "machine.gpu": ["h100-sxm5-80gb"],
    "machine.gpu.part": ["h100-sxm5-80gb"],
    "machine.gpu.count": [1, 2],
    "machine.gpu.launch": ["eager", "graph"],
    "machine.gpu.interconnect.part": ["pcie4"],
    "machine.gpu.interconnect.chunk": ["1 KiB"],
    "machine.link.part": ["pcie5"],
    "machine.link.sharing": ["private"],
    "machine.link.chunk": ["1 KiB"],
    "machine.spus.part": ["rc-100ns"],
    "machine.spus.buffering": ["single", "double", "row_pairs"],
    "machine.spus.imperfections.base": ["ideal", "realistic"],
    "machine.spus.area_limit": ["500 mm2"],
    "training.precision": ["float64"],
    "training.algorithm.mode": ["synchronous", "asynchronous"],
    "training.algorithm.state": ["reset", "kept"],
    "training.algorithm.settling.rule": ["bits", "agreement", "budget"],
    "training.algorithm.rounding": ["stochastic"],
    "training.algorithm.update.kind": ["sgd", "adam", "nadamw", "muon", "soap"],
    "training.algorithm.curvature": ["ggn", "empirical_fisher", "sampled_fisher"],
    "training.algorithm.pipeline": ["none", "upload"],
    "training.algorithm.spus": ["first", "ensemble", "split", "iterated"],
    "training.algorithm.jacobian_upload": ["twice"],
    "training.algorithm.hessian_upload": ["full"],
    "training.algorithm.damping_rule": ["plain", "exact"],
    "training.algorithm.method": [
        "digital",
        "solves",
        "inverse",
        "cholesky",
        "cg",
        "woodbury",
    ],
    "training.algorithm.levenberg_marquardt": [{"every": 1, "decay": 0.5}],
    "training.algorithm.fisher": ["type2", "type2_per_term", "mc", "empirical"],
    "training.algorithm.sharing": ["reduce"],
    "training.algorithm.upload": ["factors", "activations"],
    "training.algorithm.placement": ["auto", "layers", "columns"],
    "training.algorithm.inversion.kind": ["cholesky", "newton_schulz"],
    "training.amp": ["bf16"],
    "training.algorithm.kl_clip": [1e-3],
    "training.algorithm.delay": ["3 tau"],
    "training.algorithm.regularisation": [{"kind": "quartic", "strength": 3.0}],
    "training.algorithm.schedule.kind": ["linear", "constant"],
    "training.algorithm.grafting": ["none", "adagrad"],
    "training.target": [{"test_accuracy": 0.2}, {"test_loss": 2.0}],
    "host.threads": [2],
    "host.jacobian": ["explicit", "streamed", "products"],
}
SKIPPED = {
    "training.algorithm.kind": "another kind is another program, and has tests of its own",
    "training.tf32.convolution": "these networks have none",
    "machine.spus.circuit": "others serve some factors only, and have tests of their own",
    "host.device": "the other device is not present on every machine",
}
VARIED = (
    "method", "stale", "placement", "upload", "pipelining", "inverses_every", "factors_every",
        "covariance.samples",
    "covariance.spacing", "fisher", "fisher_samples", "update.beta1", "damping_rule", "update.kind",
    "iterations", "tolerance", "warm_start", "curvature", "damping", "levenberg_marquardt",
    "levenberg_marquardt.every", "pipeline", "spus",
)  # fmt: skip
"""What is changed of the variants of K-FAC, and of NGD, beside the number of parts; all fields are
changed of ``kfac`` itself."""
READ_BY = {
    "covariance.": ["kfac-noise"],
    ".fisher_samples": ["kfac-stale"],
    ".damping": ["kfac-digital", "ngd-cg", "ngd-cholesky", "ngd-woodbury"],
}
"""Of the variants, those that such a field matters to."""
LIKE_OTHERS = ("kfac-", "ngd-", "tngd-split-2-gpus", "tngd-asynchronous-pipelined")
"""Programs of which only these are changed."""
ONCE = ["name", "host.threads", "host.jacobian", "training.algorithm.rounding"]
ONCE += [f"training.algorithm.settling.{field}" for field in ("bits", "tolerance", "first")]
"""Of one program."""
VARIANTS = ("kfac-", "ngd-", "tngd-")
"""Of each field they take one of the other values, not all of them the same one."""
ALL = [("tngd-asynchronous", "machine.spus.buffering")]
"""Here every other value is another program."""
ALGORITHM_ALONE = ("soap", "shampoo-four-gpus", "tngd-kept", "adam")
"""Their machines are those of others, where all of it is changed."""


def varied(path: str, name: str) -> bool:
    if name == "kfac-newton-schulz" and ".inversion." in path:
        return True
    if any(field in path and name not in there for field, there in READ_BY.items()):
        return False
    return path.removeprefix("training.algorithm.") in VARIED or path.endswith(
        (".buffering", ".count")
    )


def leaves(node: Any, path: str = "") -> list[tuple[str, Any]]:
    """Every field of a resolved scenario, defaults included."""
    if isinstance(node, dict):
        return [
            leaf
            for key, value in node.items()
            for leaf in leaves(value, f"{path}.{key}" if path else key)
        ]
    return [(path, node)]


def alternatives(path: str, value: Any) -> list[Any]:
    """Other valid values of a field."""
    if path in CHOICES:
        return [choice for choice in CHOICES[path] if choice != value]
    if value is None:
        return []
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [value * 0.5 if value else 0.25]
    number, _, unit = str(value).partition(" ")
    return [f"{float(number) * 0.5 or 2.0:g} {unit}"]


def cases() -> list[Any]:
    found = []
    for name, document in PROGRAMS.items():
        resolved = YAML(typ="safe").load(hybridsim.load(document).to_yaml())
        fields = dict(leaves(resolved))
        optional = (
            ("training.target", "machine.link.chunk")
            if not name.startswith("adam")
            else ("training.target",)
        )
        fields |= dict.fromkeys(optional)
        if name == "adam-four-gpus":
            fields |= {
                "machine.gpu.interconnect.chunk": None,
                "training.batch_size": 7,
            }  # the next is 8 = 2 * 4
        if name == "tngd-asynchronous":
            fields |= dict.fromkeys(
                ("training.algorithm.delay", "training.algorithm.regularisation")
            )
        if name == "ngd-cg":
            fields["training.algorithm.levenberg_marquardt"] = None
        for path, value in fields.items():
            if path in SKIPPED or (name.startswith(LIKE_OTHERS) and not varied(path, name)):
                continue
            if path in ONCE and name != "tngd":
                continue
            if name in ALGORITHM_ALONE and not path.startswith("training.algorithm"):
                continue
            others = [o for o in alternatives(path, value) if variant(name, path, o) is not None]
            if name.startswith(VARIANTS) and others and (name, path) not in ALL:
                others = [others[len(found) % len(others)]]
            for other in others:
                found.append(pytest.param(name, path, other, id=f"{name}-{path}-{other}"))
    return found


def variant(name: str, path: str, value: Any) -> dict[str, Any] | None:
    """The changed document; None where the schema forbids the combination."""
    document = changed(PROGRAMS[name], path, value)
    if path == "workload.source":
        document["workload"] = value
    try:
        hybridsim.load(document)
    except InputError:
        return None
    return document


@pytest.mark.parametrize(("name", "path", "value"), cases())
def test_replay_equals_live(live, tmp_path, name, path, value):
    """Also a run that cannot be replayed from the facts of the unchanged program: it is run live
    instead, and replayed then."""
    document = variant(name, path, value)
    assert document is not None
    facts = tmp_path / "facts.sqlite"
    facts.write_bytes(live(name)[1].read_bytes())
    first = simulate(document, tmp_path / "first", backend="replay", facts=facts)
    if first.summary["host"]["backend"] == "live":
        second = simulate(document, tmp_path / "second", backend="replay", facts=facts)
        assert second.summary["host"]["backend"] == "replay", second.summary["host"]
    else:
        second = simulate(document, tmp_path / "second")
    assert first.manifest["digest"] == second.manifest["digest"]


def test_a_run_that_falls_back_is_the_run(live, tmp_path):
    expected, _ = live("tngd")
    facts = tmp_path / "facts.sqlite"
    facts.write_bytes(live("adam")[1].read_bytes())
    fallen = simulate(PROGRAMS["tngd"], tmp_path / "run", backend="replay", facts=facts)
    assert fallen.summary["host"]["backend"] == "live"
    assert fallen.manifest["digest"] == expected.manifest["digest"]


def test_the_cases_cover_every_part_of_a_scenario():
    """What the schema forbids is left out above; this would notice if that were nearly
    everything."""
    paths = {case.values[1] for case in cases()}
    assert len(paths) >= 40
    assert {path.split(".")[0] for path in paths} >= {
        "name",
        "seed",
        "workload",
        "host",
        "training",
        "machine",
    }
    assert {
        "training.algorithm.settle",
        "training.algorithm.delay",
        "machine.link.bandwidth",
        "machine.spus.input_bits",
        "machine.gpu.interconnect.bandwidth",
        "training.batch_size",
    } <= paths


@pytest.mark.parametrize("name", ["tngd", "kfac"])
def test_a_faster_link_needs_no_new_numbers(live, tmp_path, name):
    """In a synchronous program no number depends on the link, so the facts of the base run
    suffice."""
    document = changed(PROGRAMS[name], "machine.link.bandwidth", "400 Gb/s")
    run = simulate(document, tmp_path / "run", backend="replay", facts=live(name)[1])
    assert run.summary["host"]["backend"] == "replay"


def test_an_asynchronous_run_on_another_link_falls_back_and_says_so(live, tmp_path):
    document = changed(PROGRAMS["tngd-asynchronous"], "machine.link.bandwidth", "400 Gb/s")
    facts = tmp_path / "facts.sqlite"
    facts.write_bytes(live("tngd-asynchronous")[1].read_bytes())
    run = simulate(document, tmp_path / "run", backend="replay", facts=facts)
    assert run.summary["host"]["backend"] == "live"
    assert "no facts of settle" in run.summary["host"]["replay_missing"]
