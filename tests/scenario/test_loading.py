"""Shipped names, files, dicts, extends, overrides; and the round trip."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridsim.errors import InputError
from hybridsim.scenario.document import parse
from hybridsim.scenario.load import load
from hybridsim.scenario.merge import shipped_scenarios
from hybridsim.scenario.quantity import format_quantity
from hybridsim.scenario.settings import OPTIMIZERS

positive = st.floats(1e-9, 1e3)
tau = st.floats(0, 1e12).map(lambda v: format_quantity(v, "tau"))
beta = st.floats(0, 0.999)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


MOMENTS = {"beta1": beta, "beta2": beta, "epsilon": positive, "weight_decay": beta}
MUON = {
    "ns_coefficients": st.tuples(positive, positive, positive).map(list),
    "nesterov": st.booleans(),
}
UPDATES = st.one_of(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.fixed_dictionaries({"kind": st.sampled_from(["adam", "nadamw"])}, optional=MOMENTS),
    st.fixed_dictionaries({"kind": st.just("nesterov")}, optional={"momentum": beta}),
    st.fixed_dictionaries({"kind": st.just("muon")}, optional=MUON),
)
SCHEDULES = st.sampled_from(["constant", "cosine", "linear"]) | st.fixed_dictionaries(
    {"kind": st.just("cosine")},
    optional={"warmup_steps": st.integers(0, 9), "steps": st.integers(10, 99), "final": beta},
)
ALGORITHMS = st.one_of(
    st.fixed_dictionaries({"kind": st.just("sgd"), "learning_rate": positive}),
    st.fixed_dictionaries(
        {"kind": st.just("nesterov"), "learning_rate": positive}, optional={"momentum": beta}
    ),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["adam", "nadamw"])}, optional={"beta1": beta, "epsilon": positive}
    ),
    st.fixed_dictionaries({"kind": st.just("muon")}, optional={**MUON, "learning_rate": positive}),
    st.fixed_dictionaries(
        {"kind": st.sampled_from(["soap", "adamw"])},
        optional={"schedule": SCHEDULES, "clip_norm": positive},
    ),
    st.fixed_dictionaries(
        {"kind": st.just("tngd")},
        optional={
            "learning_rate": positive,
            "damping": positive,
            "settle": tau,
            "state": st.sampled_from(["reset", "kept"]),
            "update": UPDATES,
            "noise": st.floats(0, 1),
            "readout": optional(samples=st.integers(1, 99), spacing=tau),
        },
    ),
    st.fixed_dictionaries(
        {"kind": st.just("tngd"), "mode": st.just("asynchronous")}, optional={"wait": tau}
    ),
    st.fixed_dictionaries(
        {"kind": st.just("kfac"), "learning_rate": positive, "damping": positive},
        optional={"ema": beta, "settle": tau, "update": UPDATES},
    ),
)
BITS = st.integers(2, 16) | st.just("ideal")
SHORT_MACHINES = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from(
            ["h200-sxm", {"part": "host-cpu", "idle": "3 W", "tensor_efficiency": 0.5}]
        ),
        "spus": optional(
            count=st.integers(1, 9),
            part=st.sampled_from(["rc-1us", "rc-10ns"]),
            buffering=st.sampled_from(["single", "double", "row_pairs"]),
            input_bits=BITS,
            output_bits=BITS,
            capacitance=positive.map(lambda v: format_quantity(v, "F")),
        ),
    },
    optional={
        "constants": st.sampled_from(["paper", "realistic", "optimistic"]),
        "link": st.just("ucie")
        | optional(
            bandwidth=positive.map(lambda v: format_quantity(v * 1e9, "b/s")),
            sharing=st.sampled_from(["shared", "private"]),
            chunk=st.integers(1, 10**9).map(lambda v: format_quantity(float(v), "B")),
        ),
    },
)
SCENARIOS = st.fixed_dictionaries(
    {
        "name": st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=20),
        "workload": st.just("digits_cnn")
        | st.fixed_dictionaries(
            {
                "source": st.just("digits_mlp"),
                "options": st.dictionaries(
                    st.text("abc", min_size=1, max_size=3),
                    st.none() | st.booleans() | st.integers() | positive | st.text(max_size=5),
                ),
            }
        ),
        "training": st.fixed_dictionaries(
            {"algorithm": ALGORITHMS},
            optional={
                "steps": st.integers(1, 9999),
                "target": st.sampled_from([{"test_loss": 0.1}, {"test_accuracy": 1}]),
            },
        ),
        "machine": SHORT_MACHINES,
    },
    optional={"seed": st.integers(0, 2**62), "host": optional(threads=st.integers(1, 8))},
)


@settings(max_examples=100, deadline=None)
@given(document=SCENARIOS)
def test_a_resolved_scenario_loads_to_itself(
    document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    scenario = load(document)
    path = tmp_path_factory.getbasetemp() / "resolved.yaml"
    path.write_text(scenario.to_yaml(), encoding="utf-8")
    again = load(path)
    assert again == scenario and hash(again) == hash(scenario) and again.source != scenario.source
    assert again.to_yaml() == scenario.to_yaml() and again.training == scenario.training
    assert again.machine == scenario.machine and again.machine.expand() == scenario.machine.expand()
    assert pickle.loads(pickle.dumps(scenario)) == scenario


@pytest.mark.parametrize("name", list(shipped_scenarios()))
def test_shipped_scenarios_load_and_point_editors_to_the_schema(name: str) -> None:
    text = shipped_scenarios()[name].read_text()
    assert text.startswith("# yaml-language-server: $schema=./scenario.schema.json\n")
    scenario = load(name)
    assert load(shipped_scenarios()[name]) == scenario
    assert parse(scenario.to_yaml(), name)[0].plain() == scenario.document()


def test_the_shipped_asynchronous_run_differs_from_its_base_only_where_it_says() -> None:
    base, child = load("tngd-digits").document(), load("tngd-digits-async").document()
    for document in (base, child):
        pop(document, ("name",))
        for field in ("mode", "state", "learning_rate", "calibration_every"):
            pop(document, ("training", "algorithm", field))
        pop(document, ("machine", "spus", "buffering"))
    assert base == child


def pop(document: dict[str, Any], path: tuple[str, ...]) -> None:
    for part in path[:-1]:
        document = document[part]
    document.pop(path[-1], None)


def test_attributes_carry_their_units() -> None:
    scenario = load(
        "tngd-digits", ["machine.link.latency=3 us", "machine.link.chunk=2 KiB", "seed=7"]
    )
    assert scenario.training.algorithm.settle_tau == 100.0  # type: ignore[union-attr]  # it is a Tngd
    assert scenario.machine.link is not None and scenario.machine.link.latency_s == 3e-6  # type: ignore[attr-defined]
    assert scenario.machine.expand().edges[0].chunk_bits == 2 * 1024 * 8 and scenario.seed == 7


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "task.py").write_text("")
    (tmp_path / "sub" / "my.yaml").write_text(
        "kind: link\nextends: ucie\nconstants:\n"
        "  latency: {value: 9 ns, low: 9 ns, high: 9 ns, status: assumed, source: me}\n"
    )
    (tmp_path / "base.yaml").write_text(
        "name: base\nworkload: {source: task.py, options: {width: 3}}\n"
        "training: {steps: 9, algorithm: {kind: tngd, damping: 0.7}, target: {test_loss: 0.5}}\n"
        "machine: {gpu: h200-sxm, link: sub/my.yaml, spus: {count: 2, input_bits: 8}}\n"
    )
    return tmp_path


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_file_that_names_them(folder: Path) -> None:
    child = write(
        folder / "sub" / "child.yaml",
        "extends: ../base.yaml\nname: child\nmachine: {link: {part: my.yaml}}\n",
    )
    scenario = load(child)
    assert scenario.workload.source == os.path.abspath(folder / "task.py")
    edge = scenario.machine.expand().edges[0]
    assert (
        edge.sheet is not None and edge.sheet.name == "my" and edge.sheet.value("latency_s") == 9e-9
    )
    assert (
        edge.sheet.constants["latency_s"].source == "me"
        and edge.sheet.value("bandwidth_bit_per_s") == 1024e9
    )
    assert load(write(folder / "elsewhere.yaml", scenario.to_yaml())) == scenario


def test_maps_merge_and_a_new_kind_starts_afresh(folder: Path) -> None:
    training = "{algorithm: {kind: adam}, target: {test_accuracy: 0.5}}"
    text = f"extends: base.yaml\ntraining: {training}\nmachine: {{spus: {{count: 3}}}}\n"
    scenario = load(write(folder / "child.yaml", text))
    assert scenario.training.algorithm.kind == "adam" and scenario.training.steps == 9
    assert scenario.training.target is not None and scenario.training.target.test_loss is None
    assert scenario.machine.spus is not None
    assert (scenario.machine.spus.count, scenario.machine.spus.input_bits) == (3, 8)


def test_a_general_machine_replaces_a_short_one(folder: Path) -> None:
    machine = (
        "{nodes: {g: {kind: gpu, part: h200-sxm}, s: {kind: spu}}, edges: [{between: [g, "
        "s], link: free}]}"
    )
    scenario = load(write(folder / "child.yaml", f"extends: base.yaml\nmachine: {machine}\n"))
    assert scenario.machine.gpu is None and [n.name for n in scenario.machine.expand().nodes] == [
        "g",
        "s",
    ]
    back = write(
        folder / "grandchild.yaml", "extends: child.yaml\nmachine: {gpu: host-cpu, spus: {}}\n"
    )
    assert load(back).machine.nodes is None


@pytest.mark.parametrize(
    ("files", "path", "words"),
    [
        ({"a": "extends: a.yaml\n"}, "extends", "leads back here"),
        ({"a": "extends: b.yaml\n", "b": "extends: ./a.yaml\n"}, "extends", "leads back here"),
        ({"a": "extends: none.yaml\n"}, "extends", "an existing scenario file"),
        ({"a": "extends: tngd-digit\n"}, "extends", "'tngd-digits'"),
        ({"a": "extends: [tngd-digits]\n"}, "extends", "a list"),
        ({"a": "extends: b.yaml\n", "b": "- 1\n"}, "", "a map of fields"),
        ({"a": 'extends: "\\0.yaml"\n'}, "extends", "an existing scenario file"),
    ],
)
def test_broken_chains(tmp_path: Path, files: dict[str, str], path: str, words: str) -> None:
    for name, text in files.items():
        write(tmp_path / f"{name}.yaml", text)
    with pytest.raises(InputError) as caught:
        load(tmp_path / "a.yaml")
    (problem,) = caught.value.problems
    assert problem.path == path and words in str(problem) and problem.line == 1


def test_a_mistake_in_the_base_is_reported_there(folder: Path) -> None:
    write(
        folder / "base.yaml",
        (folder / "base.yaml").read_text().replace("damping: 0.7", "damping: -1"),
    )
    with pytest.raises(InputError) as caught:
        load(write(folder / "child.yaml", "extends: base.yaml\nname: child\nseed: x\n"))
    assert [(Path(p.file).name, p.line) for p in caught.value.problems] == [
        ("child.yaml", 3),
        ("base.yaml", 3),
    ]


def test_a_mistake_in_a_datasheet_is_reported_there(folder: Path) -> None:
    sheet = folder / "sub" / "my.yaml"
    write(sheet, sheet.read_text().replace("low: 9 ns", "low: 9 nF"))
    with pytest.raises(InputError) as caught:
        load(folder / "base.yaml")
    (problem,) = caught.value.problems
    assert (
        problem.file == str(sheet) and problem.line == 4 and problem.path == "constants.latency.low"
    )


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("seed=3", "seed", 3),
        ("training.algorithm.damping=1e-9", "training.algorithm.damping", 1e-9),
        ("machine.link.bandwidth=200 Gb/s", "machine.link.bandwidth", "200 Gb/s"),
        ('machine.link.bandwidth="200 Gb/s"', "machine.link.bandwidth", "200 Gb/s"),
        ("machine.gpu.idle=3 W", "machine.gpu.idle", "3 W"),
        ("workload.options.width=4", "workload.options.width", 4),
        ("name=a=b", "name", "a=b"),
        ("training.target={test_loss: 2}", "training.target.test_loss", 2.0),
    ],
)
def test_overrides(text: str, path: str, value: object) -> None:
    document: Any = load("tngd-digits", [text]).document()
    for part in path.split("."):
        document = document[part]
    assert document == value


def test_overrides_reach_into_lists_and_the_last_one_wins() -> None:
    general = {"nodes": {"g": {"kind": "gpu", "part": "h200-sxm"}, "s": {"kind": "spu"}}}
    general["edges"] = [{"between": ["g", "s"], "link": {"part": "pcie5"}}]  # type: ignore[assignment]  # plain data
    document = load("tngd-digits").document() | {"machine": general}
    sets = [
        "machine.edges[0].link.latency=1 ns",
        "machine.edges.0.link.latency=2 ns",
        "seed=1",
        "seed=2",
    ]
    scenario = load(document, sets)
    sheet = scenario.machine.expand().edges[0].sheet
    assert sheet is not None and sheet.value("latency_s") == 2e-9 and scenario.seed == 2
    with pytest.raises(InputError, match="an index below 1"):
        load(document, ["machine.edges[1].link=free"])


@pytest.mark.parametrize(
    "text", ["seed", "=1", "seed=-1", "sed=1", "seed=[1", "extends=x", "seed.x=1", "seed=&a 1"]
)
def test_bad_overrides_name_themselves(text: str) -> None:
    with pytest.raises(InputError) as caught:
        load("tngd-digits", [text])
    assert [(p.file, p.line) for p in caught.value.problems] == [("--set", None)]


@pytest.mark.parametrize(
    "source",
    ["", "no-such-scenario", "tngd-digit", "x/y.yaml", "a\0b", "x" * 5000, 3, None, [], {}],
)
def test_sources_that_are_none(source: Any) -> None:
    with pytest.raises(InputError) as caught:
        load(source)
    assert all(str(p).isprintable() and len(str(p)) < 1000 for p in caught.value.problems)


def test_asynchronous_settings_in_synchronous_mode() -> None:
    with pytest.raises(InputError) as caught:
        load("tngd-digits", ["training.algorithm.delay=1 tau", "training.algorithm.wait=1 tau"])
    assert [p.path for p in caught.value.problems] == [
        "training.algorithm.delay",
        "training.algorithm.wait",
    ]
    with pytest.raises(InputError, match="at most the settling time 100 tau, got '101 tau'"):
        load("tngd-digits-async", ["training.algorithm.delay=101 tau"])
    assert load("tngd-digits-async", ["training.algorithm.delay=100 tau"])


UPDATE = "training.algorithm.update"


def updated(name: str, *sets: str) -> Any:
    """What stands under update: once the scenario is loaded."""
    return load(name, sets).document()["training"]["algorithm"]["update"]


def test_an_optimizer_under_update_is_a_name_or_a_map() -> None:
    assert updated("tngd-digits") == {"kind": "sgd", "weight_decay": 0.0}
    assert updated("kfac-digits") == {"kind": "nesterov", "momentum": 0.9, "weight_decay": 0.0}
    adam = updated("tngd-digits", f"{UPDATE}=adam")
    assert adam == {"kind": "adam"} | {
        "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0
    }  # fmt: skip
    assert updated("tngd-digits", f"{UPDATE}={{kind: adam, beta1: 0}}") == adam | {"beta1": 0.0}
    # a map builds on a short form, another kind starts afresh, a short form replaces
    assert updated("tngd-digits", f"{UPDATE}=adam", f"{UPDATE}.beta1=0") == adam | {"beta1": 0.0}
    assert updated("tngd-digits", f"{UPDATE}.kind=adam", f"{UPDATE}.beta1=0")["beta1"] == 0
    assert updated("kfac-digits", f"{UPDATE}.kind=adam") == adam
    assert updated("tngd-digits", f"{UPDATE}={{kind: adam, beta1: 0}}", f"{UPDATE}=adam") == adam


def test_weight_decay_is_asked_for_under_update_and_a_default_of_the_optimizer_itself() -> None:
    assert updated("kfac-gpt")["weight_decay"] == 0.0
    assert updated("kfac-gpt", f"{UPDATE}.weight_decay=0.2")["weight_decay"] == 0.2
    decays = {"nadamw": 0.01, "adamw": 0.01, "soap": 0.01, "muon": 0.1, "adam": 0.0}
    for kind, decay in decays.items():
        alone: Any = load("adam-digits", [f"training.algorithm={{kind: {kind}}}"])
        assert alone.training.algorithm.weight_decay == decay


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("update: {kind: adam, beta1: 2}", "update.beta1", "a number < 1"),
        ("update: {kind: adam, bta1: 0.2}", "update.bta1", "nearest: 'beta1'"),
        ("update: {kind: adam, learning_rate: 1}", "update.learning_rate", "a known key"),
        ("update: {kind: kfac}", "update.kind", "nesterov, sgd, shampoo, soap"),
        ("update: adm", "update.kind", "nearest: 'adam'"),
        ("update: {beta1: 0}", "update.kind", "a kind"),
        ("update: [adam]", "update", "a map"),
        ("update: {kind: muon, ns_coefficients: [1, 2]}", "update.ns_coefficients[2]", "a value"),
        ("update: {kind: muon, nesterov: 1}", "update.nesterov", "true or false"),
        ("adam: {beta1: 0}", "adam", "update: {kind: adam, beta1: ...}"),
    ],
)
def test_a_mistake_under_update_says_where_it_stands(
    tmp_path: Path, text: str, path: str, expected: str
) -> None:
    lines = f"extends: tngd-digits\ntraining:\n  algorithm:\n    {text}\n"
    with pytest.raises(InputError) as caught:
        load(write(tmp_path / "s.yaml", lines))
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (4, f"training.algorithm.{path}")
    assert expected in problem.expected


@pytest.mark.parametrize("key", ["momentum", "moments", "adam"])
def test_settings_that_moved_under_update_are_shown_the_way(key: str) -> None:
    with pytest.raises(InputError, match=r"update: \{kind: "):
        load("kfac-digits", [f"training.algorithm.{key}=0.5"])
    with pytest.raises(InputError, match="a known key"):
        load("adam-digits", [f"training.algorithm.{key}=0.5"])


def test_a_constant_set_over_a_short_form_keeps_the_part(tmp_path: Path) -> None:
    path = tmp_path / "graph.yaml"
    path.write_text(
        "extends: tngd-digits\nmachine:\n"
        "  nodes: {gpu: {kind: gpu, part: h200-sxm}, spu: {kind: spu}}\n"
        "  edges: [{between: [gpu, spu], link: pcie5}]\n"
    )
    link = load(path, ["machine.edges[0].link.bandwidth=9 Gb/s"]).machine.edges[0].link
    assert (link.part, link.overrides()) == ("pcie5", {"bandwidth_bit_per_s": 9e9})
    sets = ["machine.gpu.count=2", "machine.gpu.interconnect=pcie5"]
    gpu = load("adam-digits", [*sets, "machine.gpu.interconnect.latency=2 us"]).machine.gpu
    assert gpu.interconnect.part == "pcie5"
    with pytest.raises(InputError, match="got 'free'"):
        path.write_text(path.read_text().replace("link: pcie5", "link: free"))
        load(path, ["machine.edges[0].link.bandwidth=9 Gb/s"])
