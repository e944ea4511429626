"""How results show themselves in a notebook: one self-contained piece of HTML."""

from __future__ import annotations

import html as escaping

from inward import draw
from inward.figures import caption, main_picture
from inward.results import Result

_MOST = 16


def html(result: Result) -> str:
    """The pictures of a result with their measures, and the record behind a fold."""
    shown = [_figure(result[i]) for i in range(min(len(result), _MOST))]
    rest = len(result) - len(shown)
    more = f"<p>and {rest} more: <code>result[i]</code></p>" if rest > 0 else ""
    record = result.record
    notes = "".join(f"<p><b>{escaping.escape(note)}</b></p>" for note in record.notes)
    summary = escaping.escape(
        f"{record.method}, {record.network['name']}, {record.seconds:.2f} s, {record.network['device']}"
    )
    details = escaping.escape(", ".join(f"{k} = {v}" for k, v in record.parameters.items()))
    return (
        f'<div style="display:flex;flex-wrap:wrap;gap:12px">{"".join(shown)}</div>{more}{notes}'
        f"<details><summary>{summary}</summary><p>{details}</p></details>"
    )


def _figure(result: Result) -> str:
    """The picture to look at, what was measured, and a line for each remark."""
    lines = [escaping.escape(line) for line in (caption(result), *result.notes())]
    source = draw.data_uri(main_picture(result))
    text = "".join(f"<div>{line}</div>" for line in lines)
    return (
        f'<figure style="margin:0;max-width:720px"><img src="{source}" alt="{"; ".join(lines)}" style="max-width:100%">'
        f'<figcaption style="font-size:0.9em">{text}</figcaption></figure>'
    )
