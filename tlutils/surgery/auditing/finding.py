"""What an audit found. The findings themselves are made in `model`, `optimizer` and `transform`."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

MARKS = {"error": "✗", "warning": "!", "note": "·"}  # worst first


@dataclass(frozen=True)
class Finding:
    """One thing that an audit found, with how to fix it.

    Attributes:
        code: A short, stable name, such as "bn-drift".
        severity: "error" (the result will be wrong), "warning" (probably not what you want) or "note".
        module: Where: dotted names of modules or parameters.
        message: What it does to the result.
        fix: What to do about it.
    """

    code: str
    severity: str
    module: str
    message: str
    fix: str


@dataclass(frozen=True)
class Audit:
    """What an audit found: `ok` when there is nothing to fix; `len` is the number of findings.

    Attributes:
        summary: What the model is, in a line.
        findings: What was found, worst first.
    """

    summary: str
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether there is no error and no warning."""
        return all(f.severity == "note" for f in self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that make a result wrong."""
        return tuple(f for f in self.findings if f.severity == "error")

    @property
    def codes(self) -> set[str]:
        """The short, stable names of all findings: `"bn-drift" in found.codes`."""
        return {f.code for f in self.findings}

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __repr__(self) -> str:
        lines = [self.summary, *([] if self.findings else ["Nothing found."])]
        for f in self.findings:
            lines += [
                f"{MARKS[f.severity]} {f.severity} {f.code} ({f.module}): {f.message}",
                f"    Fix: {f.fix}",
            ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{MARKS[f.severity]} {f.severity}</td><td><code>{f.code}</code></td>"
            f"<td><code>{html.escape(f.module)}</code></td>"
            f'<td style="text-align:left">{html.escape(f.message)}<br><b>Fix:</b> {html.escape(f.fix)}</td>'
            "</tr>"
            for f in self.findings
        )
        head = "<tr><th></th><th>code</th><th>where</th><th>what</th></tr>"
        table = f"<table>{head}{rows}</table>" if rows else "<p>Nothing found.</p>"
        return f"<p>{html.escape(self.summary)}</p>{table}"


def listed(names: Sequence[str], *, most: int = 2) -> str:
    """Return names as text, the first few and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
