"""Charts of many lines on a logarithmic axis, drawn by Matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from inward.errors import CallError

# Apart in lightness too, for color-blind readers; the dashes tell the second half from the first.
_COLORS = ("#1f5fae", "#cf5a0a", "#00866a", "#9c4a8c", "#1c1d20", "#b38a00")
_DASHES = ("-", "--", ":")
_DPI = 110


@dataclass(frozen=True)
class Panel:
    """One set of axes of :func:`panels`.

    Attributes:
        title: above it.
        lines: by name, the values at the places; what is not finite or not above 0 is left out.
    """

    title: str
    lines: dict[str, Sequence[float]]


def panels(
    found: Sequence[Panel],
    places: Sequence[float],
    *,
    across: str,
    up: str,
    low: float,
    high: float,
) -> Image.Image:
    """Panels side by side with one legend; both axes logarithmic, values from ``low`` to ``high``.

    Raises:
        CallError: for no panel, no line, or more lines than can be told apart (18).
    """
    names = list(dict.fromkeys(name for panel in found for name in panel.lines))
    if not 0 < len(names) <= len(_COLORS) * len(_DASHES):
        raise CallError(f"a chart has 1 to {len(_COLORS) * len(_DASHES)} lines, not {len(names)}; draw several")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(found) + 1.9, 3.9), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    style = {n: (_COLORS[i % len(_COLORS)], _DASHES[i // len(_COLORS)]) for i, n in enumerate(names)}
    for panel, ax in zip(found, axes, strict=True):
        for name, values in panel.lines.items():
            color, dash = style[name]
            shown = [value if value > 0 else float("nan") for value in values]
            ax.plot(places, shown, dash, color=color, label=name, linewidth=1.6)
        ax.set(xscale="log", yscale="log", ylim=(low, high), title=panel.title, xlabel=across)
        ax.grid(color="#dcdcd6", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        ticks = [place for i, place in enumerate(places) if i % 2 == 0 or place == places[-1]]
        ax.set_xticks(ticks, [f"{place:g}" for place in ticks])
        ax.set_xticks([], minor=True)
    axes[0].set_ylabel(up)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return Image.open(file).convert("RGB")
