"""The report of a finished model as one page of HTML: no script, no network, all names escaped."""

import base64
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ..errors import printable
from .results import Results

MOST = 20  # classes of which the whole confusion matrix is shown
CONFUSED = 12  # pairs of classes that are listed where there are more

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; overflow-wrap: anywhere;
  max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.2rem; margin-top: 2.5rem; }}
table {{ border-collapse: collapse; margin: 1rem 0; }}
th, td {{ padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #ddd; vertical-align: top; }}
th:first-child, td:first-child, .words th, .words td {{ text-align: left; max-width: 24rem; }}
.doubt {{ background: #fff4e0; border-left: 4px solid #e69f00; padding: .5rem 1rem; margin: .5rem 0; }}
.score {{ font-size: 1.3rem; font-weight: bold; }}
.wide {{ overflow-x: auto; }}
figure {{ display: inline-block; width: 26rem; max-width: 100%; margin: 0 1rem 1rem 0; vertical-align: top; }}
figure.small {{ width: 9rem; }}
img {{ max-width: 100%; }} figcaption {{ font-size: .9rem; }}
</style>
</head>
<body>
"""


def render(results: Results) -> str:
    """Return the page of a finished model."""
    title = f"{text(results.name)}: what was trained, and how good it is"
    parts = [HEAD.format(title=title), f"<h1>{title}</h1>"]
    judged = results.judgement
    if judged is None:
        parts.append('<p class="score">No test image: nobody knows how good it is.</p>')
    else:
        parts.append(
            f'<p class="score">Balanced accuracy {judged.report.balanced_accuracy}</p>'
            f"<p>On {judged.report.n} test images, on which nothing was chosen. In brackets, the interval of "
            "95 %: the value on all images of this "
            f"kind is likely to be in it. Random guessing would score {1 / len(results.classes):.3f}.</p>"
        )
    parts += [f'<p class="doubt">{text(doubt)}</p>' for doubt in results.doubts]
    if judged is not None:
        parts += ["<h2>Class by class</h2>", _classes(results), "<h2>What is taken for what</h2>"]
        parts += [_confusion(results), "<h2>The surest mistakes</h2>", _mistakes(results)]
    parts += [_suspects(results), "<h2>Images unlike these</h2>", f"<p>{text(results.novelty)}</p>"]
    parts += ["<h2>The images</h2>", _counts(results)]
    parts += [f"<p>Split: {text(results.split_rule)}.</p>", _noted(results)]
    parts += ["<h2>How it was trained</h2>", f"<p>{text(results.trained)}</p>"]
    parts += ["<h2>What is done to an image first</h2>", _steps(results), "</body>\n</html>\n"]
    return "\n".join(filter(None, parts))


def text(words: object) -> str:
    """Return words as they may stand in the page, whatever a folder or file is called."""
    return escape(printable(str(words)))


def _table(head: Sequence[object], rows: Sequence[Sequence[object]], kind: str = "numbers") -> str:
    def line(cells: Sequence[object], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{text(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "\n".join([line(head, "th"), *(line(row, "td") for row in rows)])
    return f'<div class="wide"><table class="{kind}">\n{body}\n</table></div>'


def _counts(results: Results) -> str:
    splits = list(results.counts)
    rows = [[name, *(results.counts[s][k] for s in splits)] for k, name in enumerate(results.classes)]
    return _table(["class", *splits], [*rows, ["in all", *(sum(results.counts[s]) for s in splits)]])


def _noted(results: Results) -> str:
    if not results.problems:
        return "<p>Nothing about the files was doubtful.</p>"
    return _table(["file", "what was noted"], results.problems, "words")


def _classes(results: Results) -> str:
    assert results.judgement is not None
    table = results.judgement.report.per_class
    recalls = results.judgement.report.recalls
    worst = np.argsort([recall.value for recall in recalls], kind="stable")  # NaN comes last
    support, precision = table["support"].tolist(), table["precision"].tolist()
    rows = [[results.classes[k], support[k], recalls[k], _number(precision[k])] for k in worst]
    return _table(["class", "test images", "recall", "precision"], rows)


def _number(value: float) -> str:
    return "undefined" if np.isnan(value) else f"{value:.3f}"


def _confusion(results: Results) -> str:
    assert results.judgement is not None
    counts, names = results.judgement.report.confusion, results.classes
    if len(names) > MOST:
        off = counts * (1 - np.eye(len(names), dtype=int))
        order = [np.unravel_index(i, off.shape) for i in np.argsort(-off, axis=None)[:CONFUSED]]
        pairs = [[names[i], names[j], off[i, j]] for i, j in order if off[i, j]]
        return _table(["true class", "taken for", "test images"], pairs) if pairs else "<p>No mistakes.</p>"
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    lines = [
        "<p>A row for each true class, a column for each predicted one.</p>",
        '<div class="wide"><table>',
    ]
    lines.append("<tr><th></th>" + "".join(f"<th>{text(name)}</th>" for name in names) + "</tr>")
    for name, row, share in zip(names, counts, shares, strict=True):
        cells = (
            f'<td style="background: rgba(0, 114, 178, {0.6 * part:.2f})">{count}</td>'
            for count, part in zip(row, share, strict=True)
        )
        lines.append(f"<tr><th>{text(name)}</th>{''.join(cells)}</tr>")
    return "\n".join([*lines, "</table></div>"])


def _mistakes(results: Results) -> str:
    judged = results.judgement
    assert judged is not None
    wrong = judged.report.n - int(np.trace(judged.report.confusion))
    if not wrong:
        return "<p>None of the test images was classified wrongly.</p>"
    shown = (
        f"{wrong} of {judged.report.n} test images were classified wrongly. These are the "
        f"{len(judged.mistakes)} of which the model was surest, as the network sees them, and what spoke "
        f"for its answer ({judged.method})."
    )
    return f"<p>{shown}</p>" + "".join(
        _figure(
            m.picture,
            f"{m.name}: is {m.label}; the model says {m.predicted}, {m.probability:.0%} sure",
            f"The image, and what spoke for {m.predicted}",
        )
        for m in judged.mistakes
    )


def _suspects(results: Results) -> str:
    if not results.suspects:
        return ""
    shown = "".join(
        _figure(
            s.picture,
            f"{s.name}: labelled {s.label}; looks like {s.suggested} ({s.probability:.0%})",
            f"An image labelled {s.label}",
            "small",
        )
        for s in results.suspects
    )
    return f"<h2>Labels to look at</h2><p>{text(results.suspects_words)}</p>{shown}"


def _figure(picture: bytes, caption: str, alt: str, kind: str = "") -> str:
    source = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    opened = f'<figure class="{kind}">' if kind else "<figure>"
    return f'{opened}<img src="{source}" alt="{text(alt)}"><figcaption>{text(caption)}</figcaption></figure>'


def _steps(results: Results) -> str:
    steps: list[dict[str, Any]] = results.preprocessing["steps"]
    rows = [
        [step["do"], "; ".join(f"{k} {v}" for k, v in step.items() if k not in ("do", "how")), step["how"]]
        for step in steps
    ]
    return _table(["step", "values", "how"], rows, "words")
