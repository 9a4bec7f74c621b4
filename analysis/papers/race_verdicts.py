"""What the races say: of every digital side, and of the rivals that a paper names."""

from __future__ import annotations

from collections.abc import Mapping

from analysis.papers.claim import KFAC, OURS, Claim, Summary, Text, interval
from analysis.papers.paired import verdict

WORDS = {"seconds": "time", "joules": "energy"}
OURS_IS = "kfac-thermodynamic"
RIVALS = {"nesterov": "Nesterov", "nadamw": "NAdamW", "kfac-cholesky": "digital K-FAC"}
HALF_AGAIN = 1 / 1.4
"""Time over a rival's that is about 50 % faster: 40 % or more."""


def _ahead(summary: Summary, side: str, measure: str) -> Summary:
    """With CUDA graphs: the best thermodynamic side over the best digital one."""
    found: Summary = summary["graph"]["sides"][side]["over the best digital"][measure]
    return found


def won(summary: Summary) -> str:
    """By time and by energy."""
    return "; ".join(
        f"{WORDS[m]} {verdict(_ahead(summary, side, m), 0.0, 1.0)}"
        for m, side in summary["graph"]["best thermodynamic"].items()
        if m in WORDS
    )


def by(summary: Summary) -> str:
    """Who is compared, how far apart they are, and in what share of draws the first wins."""
    texts = []
    for measure, side in summary["graph"]["best thermodynamic"].items():
        if measure in WORDS:
            found = _ahead(summary, side, measure)
            wins = 100 * found["shares"]["wins"][side]["share"]
            texts.append(
                f"{WORDS[measure]} of {side} over {found['rival']}: {interval(found, digits=2)}, "
                f"wins in {wins:.0f} % of draws"
            )
    return "; ".join(texts)


def _over(summary: Summary, rival: str, measure: str) -> Summary:
    """With CUDA graphs: thermodynamic K-FAC over a digital side, paired by seed."""
    found: Summary = summary["graph"]["sides"][OURS_IS]["over each digital"][rival][measure]
    return found


def _faster(limits: Mapping[str, float]) -> Text:
    """Thermodynamic K-FAC's time over each rival's is at most this."""

    def told(summary: Summary) -> str:
        rows = {rival: _over(summary, rival, "seconds") for rival in limits}
        verdicts = {
            rival: verdict(row, 0.0, limits[rival]) if row["pairs"] > 1 else "not separable"
            for rival, row in rows.items()
        }
        if len(verdicts) == 1:
            return next(iter(verdicts.values()))
        return "; ".join(f"against {RIVALS[rival]} {text}" for rival, text in verdicts.items())

    return told


def _how_far(rivals: tuple[str, ...]) -> Text:
    def told(summary: Summary) -> str:
        own = summary["graph"]["sides"][OURS_IS]
        texts = [f"got there with {own['reached']} of {own['seeds']} seeds"]
        for rival in rivals:
            rows = {
                word: _over(summary, rival, measure)
                for word, measure in (("steps", "step"), *((w, m) for m, w in WORDS.items()))
            }
            ratios = (
                f"{word} {interval(row, digits=2) if row['pairs'] > 1 else 'not measured'}"
                for word, row in rows.items()
            )
            texts.append(f"over {RIVALS[rival]}: {', '.join(ratios)}")
        return "; ".join(texts)

    return told


DIGITS = Claim(
    "Race-digits",
    OURS,
    "To 95 % on 8 x 8 digits a thermodynamic side is ahead of every digital one",
    "race_digits",
    "race",
    won,
    by,
)
NETWORKS = (
    Claim(
        "K3",
        KFAC,
        "In form: a graph network reaches its target about 50 % faster (40 or more) than Nesterov",
        "race_molecules",
        "k3",
        _faster({"nesterov": HALF_AGAIN}),
        _how_far(("nesterov",)),
    ),
    Claim(
        "K4",
        KFAC,
        "In form: on a ViT thermodynamic K-FAC is ahead of K-FAC and NAdamW in time",
        "race_vit",
        "k4",
        _faster({"kfac-cholesky": 1.0, "nadamw": 1.0}),
        _how_far(("kfac-cholesky", "nadamw")),
    ),
)
