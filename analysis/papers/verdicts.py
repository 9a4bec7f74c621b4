"""The claims and what their results say: a verdict and one figure each, read from the results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from analysis.papers import device_verdicts, open_verdicts, race_verdicts, squad_verdicts
from analysis.papers.claim import KFAC, OURS, TNGD, Claim, Summary, Text, interval
from analysis.papers.paired import verdict


def _race(basis: str) -> tuple[Text, Text]:
    """TNGD against Adam by test loss after the last step, at equal ``basis``."""

    def row(summary: Summary) -> Summary:
        found: Summary = list(summary[f"at equal {basis}"].values())[-1]["test_loss"]
        return found

    def verdict(summary: Summary) -> str:
        better = str(row(summary)["better"])
        return {"tngd": "holds", "adam": "does not"}.get(better, better)

    return verdict, lambda s: "test loss, TNGD minus Adam: " + interval(row(s)["tngd minus adam"])


def _ratio_to_exact(settle: str) -> tuple[Text, Text]:
    """A settling time against the exact solve, by test loss."""
    return (
        lambda s: s["test_loss"][f"{settle} within 5 % of exact"],
        lambda s: (
            "test loss over the exact solve's: "
            + interval(s["test_loss"]["ratio to exact"][settle])
        ),
    )


def _falls(summary: Summary) -> str:
    means = summary["test_loss"]["mean"]
    return f"test loss {means['5 tau']['mean']:.3f} at 5 τ, {means['50 tau']['mean']:.3f} at 50 τ"


def _t7_cause(summary: Summary) -> str:
    """The best delay lowers a kept state's loss by 5 % or more."""
    found = summary["test_loss"]["delay over none, kept"].values()
    return verdict(min(found, key=lambda ratio: float(ratio["mean"])), 0.0, 0.95)


def _t7_factors(summary: Summary) -> str:
    found = summary["test_loss"]
    kept, delay = found["kept over reset, no delay"], found["delay over none, kept"]
    return (
        f"test loss, state kept over reset: {interval(kept)}; "
        f"delay of 1 τ over none: {interval(delay['kept, delay 1 tau'])}"
    )


def _emerged(summary: Summary, share: str) -> list[float]:
    return [100 * one["emerged"][share] for one in summary["schedules"].values()]


def _t15(summary: Summary) -> str:
    """Idle is read as more than 5 % of the step."""
    words = []
    for part, share in (("SPU", "spu held"), ("GPU", "gpu idle")):
        busy = [idle <= 5 for idle in _emerged(summary, share)]
        words.append(f"{part} {'holds' if all(busy) else 'at some' if any(busy) else 'does not'}")
    return "; ".join(words)


def _t15_shares(summary: Summary) -> str:
    gpu = ", ".join(f"{share:.0f} %" for share in _emerged(summary, "gpu idle"))
    taus = [one["emerged"]["delay_s"] * 1e6 for one in summary["schedules"].values()]
    return f"GPU idle {gpu}; t = t_d = {', '.join(f'{tau:,.0f}' for tau in taus)} τ"


def _limit(name: str) -> tuple[Text, Text]:
    return (
        lambda s: s[name]["verdict"],
        lambda s: f"largest relative difference {s[name]['largest relative difference']:.1e}",
    )


def _t13_systems(summary: Summary) -> str:
    """A solve diverges that ends worse than where it began, or breaks down."""
    cut = [row for _, row in _cut_solves(summary)]
    worse = any(row["share worse than x = 0"] or row["breakdowns"] for row in cut)
    return "holds" if worse else "not seen"


def _t13_residual(summary: Summary) -> str:
    name, row = max(_cut_solves(summary), key=lambda found: found[1]["largest"])
    return f"largest residual over the gradient {row['largest']:.2f} ({name})"


def _cut_solves(summary: Summary) -> list[tuple[str, Summary]]:
    """What truncated CG leaves of the same systems, by iterations and damping."""
    return [
        (f"{solver}, λ = {damping}", row)
        for damping, solvers in summary["systems"].items()
        for solver, row in solvers.items()
        if solver.startswith("cg")
    ]


def _t13_training(summary: Summary) -> str:
    kept = [settle for settle, where in summary["SPU trains where CG diverges"].items() if where]
    return f"holds up to {kept[-1].replace('tau', 'τ')}" if kept else "does not"


def _t13_seeds(summary: Summary) -> str:
    solvers = summary["training"]["0.001"]
    seeds = next(iter(solvers.values()))["seeds"]
    texts = [f"{name.replace('tau', 'τ')} {row['diverged']}" for name, row in solvers.items()]
    return f"runs of {seeds} that diverge at λ = 0.001: " + ", ".join(texts)


def _t14(summary: Summary) -> str:
    """The Fisher takes more steps, or gets there less often."""
    found = summary["fisher over ggn, paired by seed"]
    if not found:
        return "not separable"
    return "holds" if found["low"] > 1 else "does not" if found["high"] < 1 else "not separable"


def _t14_steps(summary: Summary) -> str:
    found = summary["fisher over ggn, paired by seed"]
    ratio = f"steps to 93 %, Fisher over GGN: {interval(found, digits=2)}" if found else "no pair"
    reached = {side: summary[side]["seeds that reached the target"] for side in ("ggn", "fisher")}
    return f"{ratio}; reached by {reached['ggn']} and {reached['fisher']} (Fisher)"


T2, T3, T4 = "T2: time over TNGD's", "T3: fastest rival over TNGD", "T4: time over Adam's"
DIGITAL_NGD = ("NGD", "NGD-CG", "NGD-Woodbury")


def _t1(summary: Summary) -> str:
    """By algorithm, on the A100."""
    kept: Summary = summary["T1: as claimed"]["A100"]
    return "; ".join(f"{name} {'holds' if held else 'does not'}" for name, held in kept.items())


def _t1_exponents(summary: Summary) -> str:
    found: Summary = summary["T1: exponents of N"]["A100"]
    last = {name: list(found[name].values())[-1] for name in summary["T1: as claimed"]["A100"]}
    return "exponents of N at the largest: " + ", ".join(f"{n} {e:.2f}" for n, e in last.items())


def _t2(summary: Summary) -> str:
    """About 100 times is read as 50 or more, at every N."""
    ratios = {name: summary[T2]["A100"][name].values() for name in DIGITAL_NGD}
    words = {(True, True): "holds", (True, False): "at some N", (False, False): "does not"}
    return "; ".join(
        f"{name} {words[max(own) >= 50, min(own) >= 50]}" for name, own in ratios.items()
    )


def _t2_ratios(summary: Summary) -> str:
    ratios = {name: summary[T2]["A100"][name].values() for name in DIGITAL_NGD}
    texts = [f"{name} {min(own):.3g} to {max(own):.3g}" for name, own in ratios.items()]
    return "times TNGD's step: " + ", ".join(texts)


def _t3(summary: Summary) -> str:
    """The ratio of the fastest rival is largest inside the range of d_z."""
    ratios = list(summary[T3]["A100"].values())
    inside = ratios.index(max(ratios)) not in (0, len(ratios) - 1)
    return "holds" if inside else "does not"


def _t3_best(summary: Summary) -> str:
    ratios: Mapping[str, float] = summary[T3]["A100"]
    best = max(ratios, key=lambda d: ratios[d])
    ends = ", ".join(f"{ratios[d]:.2f} at {d}" for d in (next(iter(ratios)), list(ratios)[-1]))
    return f"fastest rival over TNGD at most {ratios[best]:.2f}, at d_z = {best} ({ends})"


def _t4(summary: Summary) -> str:
    """About 2 times is read as 1.5 to 2.5."""
    own = summary[T4]["A100"]["TNGD"].values()
    inside = [1.5 <= ratio <= 2.5 for ratio in own]
    return "holds" if all(inside) else "at some N" if any(inside) else "does not"


def _t4_band(summary: Summary) -> str:
    found = summary[T4]["A100"]
    bands = [f"{min(own.values()):.1f} to {max(own.values()):.1f}" for own in found.values()]
    return f"times Adam's step: {bands[0]}, with a link for free {bands[1]}"


SETTLED, PAPERS_SETTLING = "110.9 tau, 50 Gb/s", "1 tau, 50 Gb/s"


def _break_even(summary: Summary) -> str:
    one, settled = (
        summary["ratio of one SPU"][name].values() for name in (PAPERS_SETTLING, SETTLED)
    )
    words = {True: "pays", False: "does not"}
    return (
        f"schedule alone: one SPU at 1 RC a solve **{words[min(one) > 1]}**, settled "
        f"**{words[min(settled) > 1]}**, against Cholesky; 1 RC against the fastest digital way "
        f"{_against_fastest(summary['digital ways'])}"
    )


def _against_fastest(ways: Sequence[Summary]) -> str:
    """Widths at which one SPU at 1 RC is faster than the fastest digital way."""
    fastest: dict[int, Summary] = {}
    for way in ways:
        kept = fastest.setdefault(way["width"], way)
        if way["digital_step_s"] < kept["digital_step_s"]:
            fastest[way["width"]] = way
    ahead = [f"{n:,}" for n, way in fastest.items() if way["ratio of one SPU, 1 RC"] > 1]
    return f"**pays** at n = {', '.join(ahead)} alone" if ahead else "**does not**"


def _spus_needed(summary: Summary) -> str:
    needed = summary["SPUs needed"][SETTLED]
    ends = [f"{needed[n]} at n = {int(n):,}" for n in (min(needed, key=int), max(needed, key=int))]
    return "SPUs needed when settled to 16 bit: " + ", ".join(ends)


def _shares(summary: Summary) -> dict[str, tuple[float, float]]:
    """Measured and paper's share of inversions, by network and machine."""
    base, paper = summary["predicted"]["base"], summary["paper"]
    return {name: (base[name], paper[name]) for name in paper}


def _k1(summary: Summary) -> str:
    """A network's shares hold within a factor of 1.5."""
    worst: dict[str, float] = {}
    for name, (found, paper) in _shares(summary).items():
        network = name.split(",")[0].upper().replace("VIT", "ViT")
        worst[network] = max(worst.get(network, 1.0), found / paper, paper / found)
    return "; ".join(f"{n} {'holds' if w <= 1.5 else 'does not'}" for n, w in worst.items())


def _bound(summary: Summary) -> str:
    rows = summary["K2: faster without inversions"].values()
    # 1 %: without inversions, products of other blocks may come in between gathered directions
    kept = all(row["simulated without inversions"] <= 1.01 * row["at most"] for row in rows)
    return "the bound holds, its size is K1's" if kept else "does not"


def _k5a(summary: Summary) -> str:
    shares = summary["mlp"]["share of inversion"]
    other = summary["mlp"]["largest other group"]
    kept = [int(n) for n in shares if shares[n] > other[n]["share"]]
    whole = len(kept) == len(shares) and summary["gpt"]["main cost"] == "holds"
    return "holds" if whole else f"holds up to n = {max(kept):,}"


def _k6(summary: Summary) -> str:
    first = {name: row["dominates fully at"][:1] for name, row in summary.items()}
    texts = [f"{name} {f'from {at[0]:,}' if at else 'nowhere'}" for name, at in first.items()]
    return "; ".join(texts)


HIDDEN = "exponent of a hidden layer's inversions"
ADVANTAGE = "advantage over digital: inversion and products"
AT_1_RC = "method 2, 1 RC: settling, transfers, converters"


def _k9(summary: Summary) -> str:
    """Linear is read as an exponent of at least 0.9 in the last octave that was tried."""
    octaves = summary[ADVANTAGE][AT_1_RC]["exponent by octave"]
    last = list(octaves)[-1]
    return f"holds in the octave {last} alone" if octaves[last] >= 0.9 else "does not"


def _k10(summary: Summary) -> str:
    found = summary["activations"]
    linear = found["smallest extra / n^2"] == 0 and found["exponent in b at the largest n"] <= 1
    squared = summary["the moving average alone / n^2"]
    return "holds" if linear and len(squared) == 1 else "does not"


def _k11(summary: Summary) -> str:
    found, of = summary["inverse over solves, T2 = 1"]["time"]["method 2 cheaper in"].split(" of ")
    return "holds" if found == of else "not in general"


def _by_study(verdict: str) -> Text:
    names = {"digits": "digits", "digits, weak damping": "weak damping", "cifar": "CIFAR-10"}
    return lambda s: "; ".join(
        f"{names[n]} {study['verdicts'][verdict]}"
        for n, study in s.items()
        if verdict in study["verdicts"]
    )


def _points(measure: str, setting: str) -> Text:
    return lambda s: (
        "points of accuracy, "
        + "; ".join(
            f"{name} {interval(study[measure][setting], scale=100, digits=1)}"
            for name, study in (("digits", s["digits"]), ("CIFAR-10", s["cifar"]))
        )
    )


def _percent(values: Mapping[str, float]) -> str:
    return ", ".join(f"{100 * v:.0f} % ({name})" for name, v in values.items())


def _digits(summary: Summary) -> Summary:
    """Seconds of TNGD over those of Adam."""
    found: Summary = summary["tngd over adam, paired by seed"]["seconds"]
    return found


def _won(summary: Summary) -> str:
    """Shares of joint draws of all constants."""
    won = {m: found["wins"]["tngd"]["share"] for m, found in summary["shares"].items()}
    return "TNGD wins in " + ", ".join(f"{100 * w:.0f} % of draws in {m}" for m, w in won.items())


CLAIMS = (
    Claim(
        "T1",
        TNGD,
        "A step's time: NGD N³, NGD-CG flat in N, Woodbury and TNGD linear",
        "t1_scaling",
        "t1",
        _t1,
        _t1_exponents,
    ),
    Claim(
        "T2",
        TNGD,
        "TNGD's step is about 100 times faster than digital second-order ones",
        "t1_scaling",
        "t1",
        _t2,
        _t2_ratios,
    ),
    Claim(
        "T3",
        TNGD,
        "TNGD is most competitive at intermediate d_z",
        "t1_scaling",
        "t1",
        _t3,
        _t3_best,
    ),
    Claim("T4", TNGD, "TNGD takes about twice Adam's step", "t1_scaling", "t1", _t4, _t4_band),
    Claim("T5a", TNGD, "TNGD (50 τ) beats Adam at equal steps", "t5_adam", "t5", *_race("step")),
    Claim("T5b", TNGD, "… at equal simulated seconds", "t5_adam", "t5", *_race("seconds")),
    Claim("T5c", TNGD, "… at equal joules", "t5_adam", "t5", *_race("joules")),
    Claim(
        "T6a",
        TNGD,
        "The loss falls with the settling time, 5 to 50 τ",
        "t6_settling",
        "t6",
        lambda s: s["test_loss"]["monotone"],
        _falls,
    ),
    Claim(
        "T6b",
        TNGD,
        "50 τ is as good as the exact solve (within 5 %)",
        "t6_settling",
        "t6",
        *_ratio_to_exact("50 tau"),
    ),
    Claim(
        "T6c",
        TNGD,
        "The SPU at rest is the exact solve",
        "t6_settling",
        "t6",
        *_ratio_to_exact("1e9 tau"),
    ),
    Claim(
        "T7a",
        TNGD,
        "Some delay helps, and can beat the exact solve",
        "t7_delay",
        "t7",
        lambda s: s["test_loss"]["delayed beats exact"],
        lambda s: (
            "test loss over the exact solve's: "
            + interval(s["test_loss"]["over exact"]["kept, delay 1 tau"])
        ),
    ),
    Claim(
        "T7b",
        TNGD,
        "… and it is the delay, not the state kept meanwhile, that does (5 % or more)",
        "t7_delay",
        "t7",
        _t7_cause,
        _t7_factors,
    ),
    Claim(
        "T15",
        TNGD,
        "With t_d = t neither GPU nor SPU idles",
        "t7_delay",
        "t7",
        _t15,
        _t15_shares,
    ),
    Claim("T8a", TNGD, "t = 0 is SGD", "t8_limits", "t8", *_limit("0 tau against sgd")),
    Claim(
        "T8b",
        TNGD,
        "t → ∞ is the natural gradient",
        "t8_limits",
        "t8",
        *_limit("1e9 tau against exact"),
    ),
    Claim(
        "T9",
        TNGD,
        "κ₀ ≤ 0.01 is harmless (loss at most 5 % higher)",
        "t9_noise",
        "t9",
        lambda s: s["test_loss"]["harmless"]["1e-2"],
        lambda s: (
            "test loss at κ₀ = 0.01 over that at 0: "
            + interval(s["test_loss"]["ratio to kappa0 = 0"]["1e-2"])
        ),
    ),
    *squad_verdicts.CLAIMS,
    Claim(
        "T13a",
        TNGD,
        "Truncated CG may diverge on an ill-conditioned system",
        "t13_truncated_cg",
        "t13",
        _t13_systems,
        _t13_residual,
    ),
    Claim(
        "T13b",
        TNGD,
        "… and training with it, where the SPU's does not",
        "t13_truncated_cg",
        "t13",
        _t13_training,
        _t13_seeds,
    ),
    Claim(
        "T14",
        TNGD,
        "The Gauss-Newton matrix is better than the empirical Fisher",
        "t14_curvature",
        "t14",
        _t14,
        _t14_steps,
    ),
    Claim(
        "Break-even",
        KFAC,
        "Which is faster per step, thermodynamic or digital K-FAC?",
        "break_even",
        "break_even",
        _break_even,
        _spus_needed,
    ),
    Claim(
        "K1",
        KFAC,
        "Share of time in inversions: ViT 11, 16 %, GNN 27, 35 %",
        "k1_shares",
        "k1",
        _k1,
        lambda s: _percent({name: found for name, (found, _) in _shares(s).items()}),
    ),
    Claim(
        "K2",
        KFAC,
        "Hence at most 1.12 to 1.54 times faster without inversions",
        "k1_shares",
        "k1",
        _bound,
        lambda s: (
            "simulated "
            + ", ".join(
                f"{row['simulated without inversions']:.2f} (bound {row['at most']:.2f})"
                for row in s["K2: faster without inversions"].values()
            )
        ),
    ),
    *race_verdicts.NETWORKS,
    Claim(
        "K5a",
        KFAC,
        "Inversion is the main cost at all widths",
        "k5_widths",
        "k5",
        _k5a,
        lambda s: f"share at n = 16,384: {100 * s['mlp']['share of inversion']['16384']:.0f} %",
    ),
    Claim(
        "K5b",
        KFAC,
        "Its time grows nearly as n³ (exponent of 2.7 or more)",
        "k5_widths",
        "k5",
        lambda s: {"nowhere": "does not"}.get(s["mlp"]["nearly cubic"], s["mlp"]["nearly cubic"]),
        lambda s: f"largest exponent {max(s['mlp'][HIDDEN].values()):.2f}",
    ),
    Claim(
        "K6",
        KFAC,
        "A large vocabulary: inversion dominates fully (90 % of the step)",
        "k6_vocabulary",
        "k6",
        _k6,
        lambda s: (
            f"share at 10⁴ under expand: {100 * s['expand']['share of inversion']['10000']:.0f} %"
        ),
    ),
    Claim(
        "K7a",
        KFAC,
        "6 to 16 input bits hardly matter",
        "k7_precision",
        "k7",
        _by_study("6 to 16 input bits hardly matter"),
        lambda s: "6 bit, " + _points("accuracy minus ideal", "input 6")(s),
    ),
    Claim(
        "K7b",
        KFAC,
        "The output needs at least 8 bits",
        "k7_precision",
        "k7",
        lambda s: "that 6 are too few: " + _by_study("6 output bits are too few")(s),
        lambda s: "6 bit, " + _points("accuracy minus ideal", "output 6")(s),
    ),
    Claim(
        "K7c",
        KFAC,
        "8-bit K-FAC is competitive with Adam in float32, per step",
        "k7_precision",
        "k7",
        _by_study("all 8: competitive with adam"),
        lambda s: "minus Adam, " + _points("accuracy minus adam", "all 8")(s),
    ),
    Claim(
        "K9",
        KFAC,
        "The advantage over digital K-FAC grows linearly with n",
        "k9_scaling",
        "k9",
        _k9,
        lambda s: (
            "exponents, octave by octave: "
            + ", ".join(f"{e:.2f}" for e in s[ADVANTAGE][AT_1_RC]["exponent by octave"].values())
        ),
    ),
    Claim(
        "K10",
        KFAC,
        "Memory O(bn) without a moving average, O(bn + n²) with one",
        "k10_memory",
        "k10",
        _k10,
        lambda s: (
            f"at most {s['activations']['largest extra / (b n)']:.0f} b n; the average "
            f"{s['the moving average alone / n^2'][0]:.0f} n²"
        ),
    ),
    Claim(
        "K11",
        KFAC,
        "Method 2 (linear systems) is cheaper than method 1 (inverses)",
        "k11_methods",
        "k11",
        _k11,
        lambda s: (
            "in time in "
            + s["inverse over solves, T2 = 1"]["time"]["method 2 cheaper in"]
            + " settings"
        ),
    ),
    Claim(
        "Digits",
        OURS,
        "TNGD is faster than Adam to 95 % on 8 x 8 digits",
        "digits_race",
        "digits_race",
        lambda s: verdict(dict(_digits(s)), 0.0, 1.0),
        lambda s: "time of TNGD over Adam's: " + interval(_digits(s), digits=1) + f"; {_won(s)}",
    ),
    race_verdicts.DIGITS,
    *device_verdicts.CLAIMS,
    *open_verdicts.CLAIMS,
)
