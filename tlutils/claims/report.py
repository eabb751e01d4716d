"""The reproduction as a page with tables and pictures; every number and verdict in it comes from the runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .. import plots, runtime
from ..experiments import summarise
from ..metrics import Estimate
from .materials import BACKBONE, FAR, MATERIALS, NEAR, STAGES
from .matrix import LECTURE, NOTES, SLIDES
from .reproduction import TABLE, VERDICTS, evidence, verdict_table, verdicts
from .tiers import Tier
from .training import RATE
from .verdicts import FAILS, HOLDS, OPEN, Verdict

PAGE = "reproduction.md"
STRATEGIES = {"few": "partial", "finetune": "finetune", "scratch": "scratch"}
RULE = f"""
An effect is a difference between runs that share a seed: the same training images, the same held-out images,
the same start. From the differences of all seeds follow their mean and Student's 95 % interval. A claim
**{HOLDS}** if the whole interval lies above its threshold, it **{FAILS}** if the whole interval lies below,
and it is **{OPEN}** otherwise. The threshold is the margin below which a difference is of no practical
relevance: above zero where the claim says "better", below zero where it advises the cheaper of two that do as
well. "{FAILS.capitalize()}" is a finding about these images, sizes and this network, not about the claim
everywhere.
""".strip()


def write_report(table: pd.DataFrame, tier: Tier, folder: str | Path, *, only: Sequence[str] = ()) -> Path:
    """Write the page, its pictures, and the tables of runs and verdicts to a folder; return the page's path.

    Args:
        table: one row per run, as `reproduce` returns it.
        tier: the tier that it is of.
        folder: where to write.
        only: ids of the claims that the page is about; all of them unless given.

    Example:
        >>> from tlutils import claims
        >>> table = claims.evidence().query("protocol == 'gabor_likeness'")
        >>> page = claims.write_report(table, claims.QUICK, "out", only=["gabor-filters"])
        >>> page.read_text(encoding="utf-8").splitlines()[0]
        '# What the lectures claim, measured'
    """
    folder = runtime.user_path(folder)
    _write_table(table, folder / TABLE)
    table = evidence(folder)  # what is in the file, rounded: all else follows from it
    found = verdicts(table, only=only)
    _write_table(verdict_table(found), folder / VERDICTS)
    drawn = []
    for name, picture in pictures(table, found).items():
        with runtime.atomic_write(folder / "reproduction" / f"{name}.png") as temporary:
            temporary.write_bytes(picture.png())
        drawn.append(f"![{picture.alt}](reproduction/{name}.png)")
    with runtime.atomic_write(folder / PAGE) as temporary:
        temporary.write_text(page(table, tier, found, drawn), encoding="utf-8")
    return folder / PAGE


def _write_table(table: pd.DataFrame, path: Path) -> None:
    with runtime.atomic_write(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")


def page(table: pd.DataFrame, tier: Tier, found: Sequence[Verdict], drawn: Sequence[str]) -> str:
    """Return the page as Markdown."""
    counts = {v: sum(f.verdict == v for f in found) for v in (HOLDS, FAILS, OPEN)}
    failed = int((table["error"] != "").sum())
    flag = "" if tier.name == "quick" else f" --{tier.name}"
    parts = [
        "# What the lectures claim, measured",
        f"{len(found)} claims; {'; '.join(f'{v}: {n}' for v, n in counts.items())}. This page is made by "
        f"`tlutils reproduce{flag}`; `{TABLE}` has one row per run, `{VERDICTS}` one row per claim. "
        f"Of {len(table)} runs, {failed} failed; their seconds by the clock, each on one core of a machine "
        f"that may have had other work ({', '.join(sorted(set(table['machine'])))}), add up to "
        f"{table['seconds'].sum() / 60:.0f} minutes.",
        "## How a verdict comes about",
        RULE,
        "## What was measured on what",
        _sizes(table, tier),
        "Nothing is chosen on the images that judge. They come from each data set's validation split, which "
        "no protocol looks at before its end: penalties, and the stage where one is picked, are chosen by "
        "cross-validation within the training images. Rates, epochs, cuts and the strength of the noise are "
        "the same for all seeds; a pilot with one seed, seen on such images, set some, mostly for cost. "
        "The test split stays untouched.",
        "## Pictures",
        *drawn,
        "## The matrix in its three versions",
        *_matrix(found),
        "## All claims",
        _rows(
            ["claim", "source", "effect [95 % interval]", "seeds", "holds above", "verdict"],
            [
                [
                    link(v),
                    v.claim.source,
                    _effect(v),
                    v.n,
                    f"{v.claim.threshold:+g}",
                    v.verdict,
                ]
                for v in found
            ],
        ),
        "## Claim by claim",
        *(paragraph(v) for v in found),
    ]
    return "\n\n".join(parts) + "\n"


def paragraph(v: Verdict) -> str:
    """Return what a claim says, what was measured, and what follows, in a few sentences."""
    claim = v.claim
    words = [f"### {claim.id}", f"*{claim.says}* ({claim.source})"]
    if v.n:
        words.append(
            f"Measured: {claim.contrast}. Effect {_effect(v)} in {claim.unit}, over {v.n} seeds; it holds "
            f"above {claim.threshold:+g}. Verdict: **{v.verdict}**."
        )
    else:
        words.append(f"Not measured: {'; '.join(v.failed) or 'no runs'} Verdict: **{v.verdict}**.")
    if v.n and v.failed:
        words.append(f"Some runs failed: {'; '.join(v.failed)}")
    if v.n and v.parts:
        words.append(f"By data set: {'; '.join(f'{name} {interval(e)}' for name, e in v.parts.items())}.")
    words += [part for part in (v.also, claim.note) if part]
    return "\n\n".join(words)


def pictures(table: pd.DataFrame, found: Sequence[Verdict]) -> dict[str, plots.Picture]:
    """Return the pictures of the page by name; those that the table has runs for."""
    drawn = {}
    if {"linear_probe", "training"} <= set(table["protocol"]) and len(found) > 1:
        drawn["corners"] = plots.corners(
            score_strategies(table),
            ylabel="balanced accuracy",
            title="The four corners: what each strategy reaches",
            alt="Balanced accuracy with intervals of six strategies, with little and with lots of data, on a "
            "similar and two different data sets.",
        )
    if "linear_probe" in set(table["protocol"]):
        drawn["depth"] = plots.lines(
            STAGES,
            score_stages(table),
            xlabel="features after stage",
            ylabel="balanced accuracy",
            title="Where in the network the useful features are",
            alt="Balanced accuracy of linear probes by stage, with little and lots of data, by data set.",
        )
    rows: list[Any] = verdict_table(found).to_dict("records")
    rows = [r for r in rows if r["unit"] == "balanced accuracy" and r["n"] > 1]
    if rows:
        drawn["claims"] = plots.effects(
            rows,
            xlabel="effect in balanced accuracy, 95 % interval; the tick is where a claim begins to hold",
            title="",
            alt="Effect and interval of each claim measured in balanced accuracy, coloured by verdict.",
        )
    return drawn


def score_strategies(table: pd.DataFrame) -> dict[tuple[str, str], dict[str, tuple[float, float, float]]]:
    """Return what each strategy reaches, {(level, data set): {strategy: (mean, low, high)}}.

    Args:
        table: one row per run, those of the protocols linear_probe and training among them.

    Example:
        >>> from tlutils import claims
        >>> scores = claims.score_strategies(claims.evidence())
        >>> scores["lots", claims.NEAR]["probe"][0] > scores["lots", claims.NEAR]["scratch"][0]
        True
    """
    found: dict[tuple[str, str], dict[str, Any]] = {}
    probes, trained = (table[table["protocol"] == name] for name in ("linear_probe", "training"))
    final = probes[probes["at"].isin(["pool", "pixels"])]
    names = {"pixels": "pixels", "random": "random", BACKBONE: "probe"}
    for level in ("little", "lots"):
        for dataset in (NEAR, *FAR):
            panel = found[level, dataset] = {}
            for rows, axis, known in ((final, "backbone", names), (trained, "strategy", STRATEGIES)):
                here = rows[(rows["dataset"] == dataset) & (rows["level"] == level)]
                if axis == "strategy":
                    here = here[here["rate"].isin([RATE]) | (here["strategy"] == "scratch")]
                for key, *interval, _ in summarise(here, by=axis, value="score").itertuples(index=False):
                    if key in known:
                        panel[known[key]] = tuple(interval)
            found[level, dataset] = {n: panel[n] for n in plots.COLOURS if n in panel}
    return found


def score_stages(table: pd.DataFrame) -> dict[str, dict[str, list[tuple[Any, ...]]]]:
    """Return {data set: {level: (mean, low, high) for each stage}} of linear probes."""
    rows = table[(table["protocol"] == "linear_probe") & (table["backbone"] == BACKBONE)]
    means = summarise(rows, by=["dataset", "level", "at"], value="score").set_index(
        ["dataset", "level", "at"]
    )
    return {
        dataset: {
            level: [tuple(means.loc[(dataset, level, stage), ["score", "low", "high"]]) for stage in STAGES]
            for level in ("little", "lots")
            if (dataset, level, STAGES[-1]) in means.index
        }
        for dataset in (NEAR, *FAR)
        if dataset in means.index
    }


def _sizes(table: pd.DataFrame, tier: Tier) -> str:
    far = table[table["protocol"] == "domain_distance"]
    distance = far.groupby("dataset")["distance"].mean() if len(far) else pd.Series(dtype=float)
    levels = list(tier.images[NEAR])
    rows = [
        [
            name,
            "similar" if own.similar else "different",
            f"{distance[name]:.2f}" if name in distance else "–",
            *(tier.images[name][level] for level in levels),
            own.held_out,
            own.size,
        ]
        for name, own in MATERIALS.items()
    ]
    ends = [f"{n} {distance[n]:.2f}" for n in ("photographs", "noise") if n in distance]
    columns = ["data set", "column", "distance", *levels, "held out", "pixels"]
    scale = f" The ends of that scale: {', '.join(ends)}." if ends else ""
    return (
        f"{_rows(columns, rows)}\n\n{', '.join(levels).capitalize()} and held out are images of each class. "
        "The distance is how far the images are from ImageNet in the network's own features "
        f"(`transferability.domain_distance`): 0 is ImageNet itself.{scale} The network is `{BACKBONE}` "
        "unless a claim says otherwise."
    )


def _matrix(found: Sequence[Verdict]) -> list[str]:
    by_id = {v.claim.id: v for v in found}
    cells = [("little", "similar"), ("little", "different"), ("lots", "similar"), ("lots", "different")]
    tables = {"lecture": LECTURE, "slides": SLIDES, "notes": NOTES}
    rows = [
        [f"{amount}, {likeness}"]
        + [
            f"{by_id[i].claim.says} **{by_id[i].verdict}** ({_effect(by_id[i])})" if i in by_id else "–"
            for i in (f"{t}-{amount}-{likeness}" for t in tables)
        ]
        for amount, likeness in cells
    ]
    return [_rows(["cell", *tables.values()], rows)]


def link(v: Verdict) -> str:
    """Return a link to a claim's paragraph."""
    return f"[{v.claim.id}](#{v.claim.id})"


def _effect(v: Verdict) -> str:
    if not v.n:
        return "not measured"
    return interval(v.effect)


def interval(effect: Estimate) -> str:
    """Return an effect and its interval as text."""
    return f"{effect.value:+.3f} [{effect.low:+.3f}, {effect.high:+.3f}]"


def _rows(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
