"""How pages look: light, printable, usable from 360 to 1,160 pixels."""

STYLE = """
:root { --ink: #1b2430; --soft: #5a6675; --line: #dde2e8; --tint: #f5f7f9;
  --good: #00754f; --bad: #b3400a; --mark: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 24px 20px 64px; color: var(--ink);
  background: #fff;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 26px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 18px; margin: 36px 0 8px; padding-top: 14px; border-top: 1px solid var(--line); }
p { margin: 6px 0; max-width: 78ch; }
p.meta, figcaption, .why, p.note { color: var(--soft); font-size: 13px; }
p.alarm { color: #7a2b05; background: #fdf1ea; border-left: 4px solid var(--bad); padding: 8px 12px;
  max-width: none; overflow-wrap: anywhere; }
p.answer { font-size: 20px; line-height: 1.35; font-weight: 600; margin: 14px 0 8px;
  max-width: 62ch; overflow-wrap: anywhere; }
p.doubtful { color: var(--bad); }
ul { margin: 6px 0; padding-left: 20px; max-width: 78ch; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(190px, 1fr)); gap: 12px;
  margin: 18px 0 4px; }
.card { background: var(--tint); border-radius: 6px; border-top: 3px solid var(--mark);
  padding: 12px 14px; }
.card.good { border-top-color: var(--good); } .card.bad { border-top-color: var(--bad); }
.card .label { font-size: 12px; letter-spacing: .04em; text-transform: uppercase;
  color: var(--soft); }
.card .headline { font-size: 21px; font-weight: 600; line-height: 1.25; margin: 2px 0;
  overflow-wrap: anywhere; }
.card.good .headline { color: var(--good); } .card.bad .headline { color: var(--bad); }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr));
  gap: 4px 20px; }
.columns.wide { grid-template-columns: repeat(auto-fit, minmax(min(460px, 100%), 1fr)); }
.columns > * { min-width: 0; }
figure.chart { margin: 8px 0 4px; min-width: 0; } figcaption { margin: 2px 0 8px; max-width: 78ch; }
.scroll { overflow-x: auto; margin: 8px 0; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums;
  width: 100%; }
th { font-weight: 600; color: var(--soft); font-size: 12.5px; vertical-align: bottom; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; padding-right: 10px; }
tbody tr:hover { background: var(--tint); }
td.text { overflow-wrap: break-word; } td.text:first-child { min-width: 9ch; }
td.text.some { min-width: 16ch; } td.long { min-width: 30ch; overflow-wrap: anywhere; }
.legend { display: flex; flex-wrap: wrap; gap: 2px 16px; max-width: none; font-size: 13px;
  margin: 10px 0 0; }
.legend i { display: inline-block; width: 11px; height: 11px; margin-right: 6px; }
tr.parts > td { border-bottom: 0; padding: 0; } tr.parts details { margin: 0 0 4px; }
tr.parts summary { font-size: 12.5px; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--mark); }
pre { background: var(--tint); padding: 12px 14px; border-radius: 6px; overflow-x: auto;
  font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
@media (max-width: 560px) { body { padding: 14px 12px 40px; } h1 { font-size: 21px; }
  h2 { margin-top: 26px; }
  .cards { grid-template-columns: 1fr; gap: 8px; } }
@media print { body { max-width: none; padding: 0; font-size: 11px; }
  .card, figure.chart, tr { break-inside: avoid; } h2 { break-after: avoid; }
  .scroll, pre { overflow: visible; } pre { white-space: pre-wrap; } }
"""
