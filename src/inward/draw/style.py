"""How a page looks: one style sheet, light and dark, with no font and no picture from elsewhere."""

from __future__ import annotations

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #fcfcfa; --ink: #1c1d20; --quiet: #5c6068; --rule: #dfdfd9; --panel: #f3f3ef; --accent: #1f5fae;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16171a; --ink: #e8e8e4; --quiet: #a3a7af; --rule: #34363b; --panel: #1f2125; --accent: #8ab8f0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body {
  margin: 0 auto; max-width: 72rem; padding: clamp(1.5rem, 5vw, 4rem) clamp(1rem, 4vw, 2.5rem);
  background: var(--paper); color: var(--ink);
  font: 1.0625rem/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Helvetica Neue", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1, h2 { line-height: 1.2; text-wrap: balance; letter-spacing: -0.012em; }
h1 { margin: 0 0 1.5rem; max-width: 26ch; font-size: clamp(1.9rem, 1.3rem + 2.4vw, 2.9rem); font-weight: 680; }
h2 { margin: 0 0 0.9rem; font-size: 1.45rem; font-weight: 640; }
p { margin: 0 0 1rem; max-width: 42rem; text-wrap: pretty; }
a { color: var(--accent); text-underline-offset: 0.2em; }
nav ol {
  display: flex; flex-wrap: wrap; gap: 0.35rem 1.5rem; margin: 0; padding: 0;
  list-style: none; font-size: 0.94rem;
}
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
section {
  margin-top: clamp(2rem, 4vw, 3rem); padding-top: clamp(1.5rem, 3vw, 2rem); border-top: 1px solid var(--rule);
}
.figures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(var(--column), 1fr));
  gap: 1.75rem 1.5rem; align-items: start; margin: 1.5rem 0 1rem;
}
figure { margin: 0; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
/* Pictures bring a white ground of their own: without a plate of that color they have ragged edges on a dark page. */
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: 3px; }
.scroll { overflow-x: auto; }
.scroll img { max-width: max(100%, 36rem); }
/* On a narrow screen a sheet goes on behind the edge: it fades there, and has room to be moved out of the fading. */
@media (max-width: 40rem) {
  .scroll { display: flex; mask-image: linear-gradient(to left, transparent, #000 2.5rem); }
  .scroll img { flex: none; margin-right: 2.5rem; }
}
figure.tiny img { width: 100%; max-width: 14rem; image-rendering: pixelated; }
figcaption { margin-top: 0.55rem; max-width: 42rem; color: var(--quiet); font-size: 0.9rem; line-height: 1.45; }
.table { margin: 1.5rem 0 1rem; overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.94rem; font-variant-numeric: tabular-nums lining-nums; }
th, td { padding: 0.45rem 1.75rem 0.45rem 0; border-bottom: 1px solid var(--rule); text-align: left; }
th { color: var(--quiet); font-weight: 560; vertical-align: bottom; }
td { vertical-align: top; }
th:last-child, td:last-child { padding-right: 0.25rem; }
.number { text-align: right; white-space: nowrap; }
pre {
  margin: 1.5rem 0 1rem; padding: 1rem 1.15rem; overflow-x: auto; border-radius: 6px; background: var(--panel);
  font: 0.88rem/1.55 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
@media print {
  body { max-width: none; padding: 0; }
  figure, tr { break-inside: avoid; }
}
"""
