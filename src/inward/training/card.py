"""The model card: what was trained, how, and what it does, as JSON and as a page to read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from inward.errors import numbered

CARD, PAGE = "card.json", "card.md"


def as_json(card: Mapping[str, Any]) -> bytes:
    """``card.json``."""
    return (json.dumps(card, indent=1) + "\n").encode()


def as_page(card: Mapping[str, Any]) -> bytes:
    """``card.md``."""
    recipe, figures = card["recipe"], card["figures"]
    lines = [f"# {card['name']}", "", _summary(card), "", "## What it does", ""]
    lines += ["| | accuracy | 95 % interval | pictures |", "| --- | --- | --- | --- |"]
    for row in figures["accuracy"]:
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        lines.append(f"| {row['what']} | {row['accuracy']:.1%} | {interval} | {row['pictures']} |")
    if "auroc" in figures:
        told = (
            f"{figures['auroc']:.3f}, every second of these attacked; {figures['auroc_as_made']:.3f} before the attack"
        )
        lines += ["", f"Pictures of a class against pictures of none (AUROC): {told}"]
    lines += ["", "![accuracy by epoch](curves.png)"] if len(card["history"]) > 1 else []
    lines += ["", "## Recipe", "", *_table(recipe, ("setting", "value"))]
    lines += ["", "## By epoch", "", *_history(card["history"])]
    lines += ["", f"Made with {', '.join(f'{k} {v}' for k, v in card['versions'].items())}.", ""]
    return "\n".join(lines).encode()


def _summary(card: Mapping[str, Any]) -> str:
    recipe = card["recipe"]
    how = {"none": "normally", "trades": "with TRADES", "free": "adversarially (free)"}.get(
        recipe["adversarial"], f"adversarially ({recipe['adversarial']})"
    )
    ball = "" if recipe["adversarial"] == "none" else f", eps {recipe['eps']:.4g} ({recipe['ball']})"
    return (
        f"A {recipe['net']} with {card['parameters']:,} parameters, trained {how}{ball} on {recipe['data']} at "
        f"{recipe['size']} pixels, for {numbered(recipe['epochs'], 'epoch')} in {_time(card['seconds'])}. "
        f"Classes: {', '.join(card['classes'])}."
    )


def _time(seconds: float) -> str:
    return numbered(round(seconds), "second") if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _table(rows: Mapping[str, Any], heads: Sequence[str]) -> list[str]:
    told = {name: f"{value:.6g}" if isinstance(value, float) else str(value) for name, value in rows.items()}
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return lines + [f"| {name} | {value} |" for name, value in told.items()]


def _history(history: Sequence[Mapping[str, float]]) -> list[str]:
    lines = ["| epoch | loss | as shown | held out | seconds |", "| --- | --- | --- | --- | --- |"]
    for row in history:
        shares = f"{row['shown']:.1%} | {row['accuracy']:.1%}"
        lines.append(f"| {row['epoch']:.0f} | {row['loss']:.4f} | {shares} | {row['seconds']:.0f} |")
    return lines
