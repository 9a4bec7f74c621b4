"""Programs on small machines: what every law must hold for."""

from __future__ import annotations

import copy
from typing import Any

WORKLOAD = {"source": "digits_mlp", "options": {"hidden": 6, "depth": 1}}
TNGD = {
    "kind": "tngd",
    "learning_rate": 0.2,
    "damping": 0.1,
    "settle": "20 tau",
    "noise": 1e-4,
    "readout": {"samples": 2, "spacing": "1 tau"},
}
KFAC = {
    "kind": "kfac",
    "learning_rate": 0.05,
    "damping": 0.1,
    "settle": "5 tau",
    "noise": 1e-4,
    "placement": "layers",
    "update": {"kind": "nesterov"},
}
DIGITAL = {"kind": "kfac", "learning_rate": 0.05, "damping": 0.1, "method": "digital"}
NGD = {"kind": "ngd", "learning_rate": 0.2, "damping": 0.1}
GPUS = {"gpu": {"part": "a100-sxm4-80gb", "count": 4, "interconnect": "nvlink3"}}
SPUS = {
    "count": 1,
    "part": "rc-1us",
    "input_bits": 8,
    "bias_bits": 10,
    "output_bits": 9,
    "imperfections": "ideal",
}
MACHINE = {
    "gpu": "a100-sxm4-80gb",
    "link": {"part": "paper-50gbps", "bandwidth": "50 Gb/s", "latency": "1 us"},
    "spus": SPUS,
}


def document(algorithm: dict[str, Any], machine: dict[str, Any]) -> dict[str, Any]:
    training = {"batch_size": 4, "steps": 4, "evaluate_every": 2, "algorithm": algorithm}
    return copy.deepcopy(
        {
            "name": algorithm["kind"],
            "seed": 1,
            "workload": WORKLOAD,
            "training": training,
            "machine": machine,
        }
    )


PROGRAMS = {
    "tngd": document(TNGD, MACHINE),
    "tngd-kept": document(
        {**TNGD, "state": "kept", "update": {"kind": "adam"}},
        # without clipping, whose settles take seconds
        {**MACHINE, "spus": {**SPUS, "imperfections": {"base": "realistic", "full_scales": False}}},
    ),
    "tngd-asynchronous": document(
        {**TNGD, "mode": "asynchronous", "state": "kept", "wait": "5 tau", "learning_rate": 0.05},
        {**MACHINE, "spus": {**SPUS, "buffering": "double"}},
    ),
    "tngd-asynchronous-pipelined": document(
        {
            **TNGD,
            "mode": "asynchronous",
            "wait": "5 tau",
            "pipeline": "upload",
            "learning_rate": 0.05,
        },
        {**MACHINE, "spus": {**SPUS, "buffering": "double"}},
    ),
    "tngd-split-2-gpus": document(
        {**TNGD, "spus": "split"},
        {**MACHINE, "gpu": {**GPUS["gpu"], "count": 2}, "spus": {**SPUS, "count": 3}},
    ),
    "kfac": document(KFAC, {**MACHINE, "spus": {**SPUS, "count": 4}}),
    "kfac-auto": document(
        {**KFAC, "placement": "auto"},
        {
            **MACHINE,
            "spus": {**SPUS, "count": 3, "buffering": "double", "imperfections": "realistic"},
        },
    ),
    "kfac-inverse": document(
        {**KFAC, "method": "inverse", "placement": "columns", "inverses_every": 2, "stale": True},
        {**MACHINE, "spus": {**SPUS, "count": 3, "buffering": "double"}},
    ),
    "kfac-noise": document(
        {
            **KFAC,
            "method": "noise",
            "noise": 1e-2,
            "covariance": {"samples": 50, "spacing": "1 tau"},
        },
        {**MACHINE, "spus": {**SPUS, "count": 2}},
    ),
    "kfac-stale": document(
        {**KFAC, "stale": True, "placement": "layers", "update": {"kind": "adam"}, "fisher": "mc"},
        {**MACHINE, "spus": {**SPUS, "count": 2, "buffering": "double"}},
    ),
    "kfac-tiles": document(
        {**KFAC, "tiling": True}, {**MACHINE, "spus": {**SPUS, "count": 2, "cells": 20}}
    ),
    "kfac-activations": document(
        {**KFAC, "upload": "activations", "ema": 0.0}, {**MACHINE, "spus": {**SPUS, "count": 2}}
    ),
    "kfac-16-spus": document(
        {**KFAC, "placement": "columns"},
        {**MACHINE, "spus": {**SPUS, "count": 16, "buffering": "double"}},
    ),
    "kfac-digital": document(
        {**DIGITAL, "damping_rule": "exact", "kl_clip": 1e-3}, {"gpu": "a100-sxm4-80gb"}
    ),
    "kfac-newton-schulz": document(
        {**DIGITAL, "inversion": {"kind": "newton_schulz", "batched": True}, "stale": True},
        {"gpu": "a100-sxm4-80gb"},
    ),
    "kfac-digital-4-gpus": document(
        {**DIGITAL, "factors_every": 2, "inverses_every": 3, "stale": True}, GPUS
    ),
    "kfac-4-gpus": document(KFAC, {**MACHINE, **GPUS, "spus": {**SPUS, "count": 6}}),
    "ngd-cg": document(
        {**NGD, "method": "cg", "iterations": 20, "tolerance": 0.1, "warm_start": True},
        {"gpu": "a100-sxm4-80gb"},
    ),
    "ngd-cholesky": document(
        {**NGD, "method": "cholesky", "levenberg_marquardt": {"every": 2}, "update": "adam"},
        {"gpu": "a100-sxm4-80gb"},
    ),
    "ngd-woodbury": document({**NGD, "curvature": "empirical_fisher"}, {"gpu": "a100-sxm4-80gb"}),
    "adam": document({"kind": "adam", "learning_rate": 0.01}, {"gpu": "a100-sxm4-80gb"}),
    "soap": document(
        {
            "kind": "soap",
            "basis_every": 2,
            "schedule": {"kind": "cosine", "warmup_steps": 1, "steps": 9, "final": 0.1},
            "clip_norm": 0.5,
        },
        {"gpu": "a100-sxm4-80gb"},
    ),
    "shampoo-four-gpus": document(
        {"kind": "shampoo", "learning_rate": 0.01, "root_every": 2, "grafting": "adam"}, GPUS
    ),
    "adam-four-gpus": document(
        {"kind": "adam", "learning_rate": 0.01},
        {
            "gpu": {
                "part": "a100-sxm4-80gb",
                "count": 4,
                "interconnect": {"bandwidth": "10 Gb/s", "latency": "1 us"},
            }
        },
    ),
}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with one field set."""
    result = copy.deepcopy(document)
    *parents, leaf = path.split(".")
    node = result
    for key in parents:
        if isinstance(node.get(key), str):
            node[key] = {"part": node[key]}  # the short form of a part
        node = node.setdefault(key, {})
    node[leaf] = value
    return result
