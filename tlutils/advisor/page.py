"""An advice as one HTML page that needs nothing else, with its figures, recipe and notebook beside it."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment

from .. import data, metrics, plots, runtime
from ..intervals import Estimate
from ..probe import COARSE_FOLDS
from .backbones import points
from .policies import POLICIES
from .race import LEVEL

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
color: #222 }
h1 { font-size: 1.6rem } h2 { font-size: 1.2rem; margin-top: 2rem }
table { border-collapse: collapse; font-size: .9rem } th, td { padding: .25rem .6rem; text-align: left;
border-bottom: 1px solid #ddd; vertical-align: top } td.n { text-align: right; white-space: nowrap }
.answer { border-left: 4px solid #0072B2; padding: .5rem 1rem; background: #f4f8fb }
.first { border-left-color: #D55E00; background: #fdf5ef }
.chosen { font-weight: bold }
img { max-width: 100% }
pre { background: #f6f6f6; padding: .8rem; overflow-x: auto; font-size: .85rem }
.thumbs img { height: 72px; margin: 2px } .thumbs { margin: .2rem 0 .8rem }
"""

BODY = """
<p class="answer">{{ advice.verdict }}<br>Expected balanced accuracy on images of the same kind, after
learning from all of these (the table has what was measured after learning from a part of them):
<b>{{ advice.expected }}</b> ({{ level }} interval).</p>
{% if advice.collect %}<p class="answer first">{{ advice.collect }}</p>{% endif %}
{% if compared %}<p>{{ advice.compared }}</p>
<table><tr><th>backbone</th><th>balanced accuracy</th><th>ms per image, one at a time</th><th></th></tr>
{% for row in compared %}<tr><td{% if row.chosen %} class="chosen"{% endif %}>{{ row.name }}</td>
<td class="n">{{ row.score }}</td><td class="n">{{ row.milliseconds }}</td><td>{{ row.says }}</td></tr>
{% endfor %}</table>
{% endif %}
<p>{{ advice.runner_up }}</p>
<table><tr><th>policy</th><th>what it does</th><th>balanced accuracy</th><th>seconds, predicted</th>
<th>seconds</th><th></th></tr>
{% for row in rows %}<tr><td{% if row.chosen %} class="chosen"{% endif %}>{{ row.policy }}</td>
<td>{{ row.does }}</td><td class="n">{{ row.score }}</td><td class="n">{{ row.predicted }}</td>
<td class="n">{{ row.seconds }}</td><td>{{ row.says }}</td></tr>
{% endfor %}</table>
"""

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Advice for {{ advice.name }}</title>
<meta name="viewport" content="width=device-width"><style>{{ style|safe }}</style></head><body>
<h1>How much to freeze: {{ advice.name }}</h1>
<p>{{ advice.inferred }} Network: {{ advice.backbone }}. {{ took }}</p>
{{ body|safe }}
{% for picture in pictures %}<p><img alt="{{ picture.alt }}"
src="data:image/png;base64,{{ picture.png }}"></p>
{% endfor %}
<h2>What to know of the images</h2>
{% for finding in findings %}<p><b>{{ finding.code }}</b>: {{ finding.message }}</p>
{% if finding.thumbs %}<p class="thumbs">{% for thumb in finding.thumbs %}<img alt="{{ thumb.name }}"
title="{{ thumb.name }}" src="data:image/jpeg;base64,{{ thumb.jpeg }}">{% endfor %}</p>{% endif %}
{% else %}<p>Nothing doubtful was found.</p>{% endfor %}
<h2>How near to the images of pretraining</h2>
<p>{{ similarity }}</p>
{% if advice.deployed %}<p><b>Where it will be used</b>: {{ advice.deployed }}. Validation on images
like those of training cannot see what that costs.</p>{% endif %}
<h2>What three published tables would have said</h2>
<ul>{% for line in advice.published %}<li>{{ line }}</li>{% endfor %}</ul>
<h2>What more images would buy</h2>
<p>{{ advice.more_images }}</p>
<h2>Do it</h2>
<p>The same advice again: <code>{{ command }}</code></p>
<pre>{{ advice.code }}</pre>
</body></html>
"""

THUMBS, HEIGHT = 8, 100


def _render(template: str, **values: Any) -> str:
    return Environment(autoescape=True, trim_blocks=True).from_string(template).render(**values)


def body(advice: Any) -> str:
    """Return the answer and the tables of backbones and policies as HTML, all names escaped.

    Args:
        advice: an `Advice`.
    """
    rows = []
    for policy, row in advice.table.iterrows():
        seen = not np.isnan(row["score"])
        says = row["left_out"] or (
            "ties with the best" if row["ties"] else f"{100 * row['behind']:.1f} points"
        )
        rows.append(
            {
                "policy": policy,
                "chosen": policy == advice.policy,
                "does": POLICIES[str(policy)],
                "score": str(Estimate(row["score"], row["low"], row["high"])) if seen else "",
                "predicted": f"{row['predicted']:.0f}" if row["predicted"] else "",
                "seconds": f"{row['seconds']:.0f}" if row["folds"] else "",
                "says": says,
            }
        )
    compared = []
    for name, row in advice.backbones.iterrows():
        says = f"{points(row)} behind" + (", which ties" if row["ties"] else "")
        compared.append(
            {
                "name": name,
                "chosen": name == advice.backbone,
                "score": str(Estimate(row["score"], row["low"], row["high"])),
                "milliseconds": f"{row['milliseconds']:.1f}",
                "says": "" if name == advice.backbone else says,
            }
        )
    return _render(BODY, advice=advice, rows=rows, compared=compared, level=f"{LEVEL:.0%}")


def write_files(advice: Any, folder: str | Path, command: str) -> Path:
    """Write `advice.html`, `recipe.py` and `advice.ipynb` into a folder, and return the page.

    Args:
        advice: an `Advice`.
        folder: where to.
        command: what gives the same advice again.
    """
    folder = runtime.user_path(folder)
    text = _render(
        PAGE,
        advice=advice,
        style=STYLE,
        body=body(advice),
        took=f"It took {advice.seconds / 60:.1f} minutes of {advice.budget:g}.",
        pictures=[{"alt": p.alt, "png": base64.b64encode(p.png()).decode()} for p in draw(advice)],
        findings=[
            {"code": f.code, "message": f.message, "thumbs": list(map(_thumb, f.paths[:THUMBS]))}
            for f in advice.findings
        ],
        similarity=_similarity(advice),
        command=command,
    )
    page = folder / "advice.html"
    for path, content in (
        (page, text),
        (folder / "recipe.py", advice.code),
        (folder / "advice.ipynb", _notebook(advice)),
    ):
        with runtime.atomic_write(path) as temporary:
            temporary.write_text(content, encoding="utf-8", errors="backslashreplace")
    return page


def draw(advice: Any) -> list[plots.Picture]:
    """Return the figures of an advice: policies with intervals, the learning curve, and the confusion.

    Args:
        advice: an `Advice`.
    """
    seen = advice.table.dropna(subset=["score"])
    results = {
        _called(str(name)): (row["score"], row["low"], row["high"])
        for name, row in seen.iterrows()
        if row["folds"] == COARSE_FOLDS
    }
    alt = "; ".join(
        f"{name} {value:.3f} [{low:.3f}, {high:.3f}]" for name, (value, low, high) in results.items()
    )
    pictures = [
        plots.intervals(
            results,
            title=f"{len(advice.decision.tied)} of {len(results)} policies tie with the best",
            alt=f"Balanced accuracy by policy: {alt}.",
            xlabel=f"balanced accuracy, with its {LEVEL:.0%} interval",
        )
    ]
    curve = advice.curve
    pictures.append(
        plots.lines(
            curve["images"].tolist(),
            {"linear probe": curve[["score", "low", "high"]].to_numpy(), "chance": 1 / len(advice.classes)},
            title="What more images have brought so far",
            alt="The linear probe by number of images: "
            + ", ".join(f"{row.images:.0f} images {row.score:.3f}" for row in curve.itertuples())
            + ".",
            xlabel="images that are learned from",
            ylabel="balanced accuracy",
            logx=True,
        )
    )
    if len(advice.classes) <= 12:
        chances, labels = advice.probabilities[advice.policy], np.asarray(advice.known.labels)
        judged = ~np.isnan(chances).any(axis=1)
        report = metrics.report(labels[judged], chances[judged], classes=advice.classes)
        pictures.append(
            plots.confusion(
                report.confusion,
                advice.classes,
                title=f"What {advice.policy!r} takes for what, out of fold",
                alt=f"Confusion of {report.n} images in {len(advice.classes)} classes.",
            )
        )
    return pictures


def _called(policy: str) -> str:
    """Return what a policy is called in a figure, where "probe" would take the name of a strategy."""
    return "linear probe" if policy == "probe" else policy


def _similarity(advice: Any) -> str:
    if np.isnan(advice.distance):
        return f"{advice.backbone} keeps no BatchNorm statistics, so its distance cannot be measured."
    others = ", ".join(f"{data.card(name).title} {value:.2f}" for name, value in advice.anchors.items())
    return (
        f"Distance {advice.distance:.2f} from the images that {advice.backbone} was pretrained on, by the "
        f"statistics that its BatchNorm layers keep of them: 0 is the same. Measured alike: {others}."
    )


def _thumb(path: Path) -> dict[str, str]:
    image = data.load_image(path)
    image.thumbnail((2 * HEIGHT, HEIGHT))
    raw = io.BytesIO()
    image.convert("RGB").save(raw, format="jpeg", quality=70)
    return {"name": path.name, "jpeg": base64.b64encode(raw.getvalue()).decode()}


def _notebook(advice: Any) -> str:
    import nbformat  # which takes a second: its schemas bring a parser

    new = nbformat.v4
    cells = [
        new.new_markdown_cell(
            f"# {advice.name}: {advice.policy}\n\n{advice.verdict} What `tlutils advise` measured is on "
            "the page beside this notebook."
        ),
        new.new_code_cell(advice.code.rstrip()),
    ]
    for number, cell in enumerate(cells):
        cell["id"] = f"advice-{number}"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return nbformat.writes(new.new_notebook(cells=cells, metadata=metadata))
