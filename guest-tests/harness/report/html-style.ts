/** Style of the report: light and dark by the reader's own setting, no font and no file from anywhere. */
export const STYLE = `
:root {
  color-scheme: light dark;
  --paper: #fbfaf8; --card: #ffffff; --ink: #1c1d21; --soft: #62656e; --line: #e3e1dc; --tint: #f3f1ec; --accent: #2f5fd0;
  --PASS: #2e8b57; --FAIL: #d0342c; --SKIP: #a4a7ae; --XFAIL: #8a7bb8; --XPASS: #b0459a; --TIMEOUT: #d97a13;
  --CRASH: #8f1d3f; --HANG: #a8552b; --FLAKY: #c9a20c; --INFRA: #2474a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131418; --card: #1b1d22; --ink: #e8e7e3; --soft: #9a9da6; --line: #2e3138; --tint: #23262c; --accent: #86a8ff;
    --PASS: #4cb37c; --FAIL: #f0645c; --SKIP: #666a73; --XFAIL: #a598d6; --XPASS: #d873c4; --TIMEOUT: #f09a3e;
    --CRASH: #e0527f; --HANG: #d98a5f; --FLAKY: #e0bf3c; --INFRA: #56a5d8;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 -apple-system, "Segoe UI", Roboto, Cantarell, "Noto Sans", "DejaVu Sans", system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 26px; font-weight: 650; letter-spacing: -.02em; margin: 0 0 2px; }
h2 { font-size: 18px; font-weight: 650; letter-spacing: -.01em; margin: 44px 0 12px; }
h3 { font-size: 14px; font-weight: 600; margin: 0 0 6px; }
p { margin: 0 0 10px; } a { color: var(--accent); text-decoration: none; } a:hover { text-decoration: underline; }
.soft { color: var(--soft); } .small { font-size: 13px; } .num { font-variant-numeric: tabular-nums; }
code, pre, .mono { font: 12.5px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--tint); border-radius: 8px; padding: 10px 12px; overflow: auto; margin: 8px 0; max-height: 420px; white-space: pre-wrap; overflow-wrap: anywhere; }
.chips { display: flex; flex-wrap: wrap; gap: 8px; margin: 18px 0 0; }
.chip { display: inline-flex; align-items: baseline; gap: 7px; padding: 5px 12px; border-radius: 99px; background: var(--card); border: 1px solid var(--line); font-weight: 600; }
.chip i { width: 9px; height: 9px; border-radius: 50%; align-self: center; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 16px 18px; margin: 0 0 14px; overflow-x: auto; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 14px; }
.grid .card { margin: 0; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; font-size: 13px; color: var(--soft); }
th, td { padding: 5px 12px 5px 0; vertical-align: top; border-bottom: 1px solid var(--line); } tr:last-child td { border-bottom: 0; }
td.r, th.r { text-align: right; }
.matrix td, .matrix th { padding: 3px 6px; border: 0; } .matrix th.suite { padding-top: 12px; color: var(--ink); }
.matrix td:first-child { padding-left: 14px; width: 100%; } .matrix th { text-align: center; white-space: nowrap; } .matrix th.suite, .matrix th:first-child { text-align: left; }
.v { display: inline-block; min-width: 74px; text-align: center; padding: 1px 8px; border-radius: 6px; color: #fff; font-size: 11.5px; font-weight: 650; letter-spacing: .03em; }
@media (prefers-color-scheme: dark) { .v { color: #101114; } }
a.v:hover { text-decoration: none; filter: brightness(1.1); }
details { border-bottom: 1px solid var(--line); padding: 7px 0; } details:last-child { border-bottom: 0; }
summary { cursor: pointer; display: flex; gap: 12px; align-items: baseline; list-style: none; } summary::-webkit-details-marker { display: none; }
summary .name { flex: 1; } .body { padding: 6px 0 8px 86px; } @media (max-width: 700px) { .body { padding-left: 0; } }
:target > details, details:target { background: var(--tint); border-radius: 8px; padding-left: 8px; padding-right: 8px; }
svg { display: block; max-width: 100%; height: auto; } svg text { fill: var(--soft); font-size: 11px; } svg .ink { fill: var(--ink); }
.bad { color: var(--FAIL); } .good { color: var(--PASS); } mark { background: color-mix(in srgb, var(--FLAKY) 45%, transparent); color: inherit; border-radius: 3px; }
@media print { main { max-width: none; padding: 0; } details > .body { display: block; } }
`;

/** Background of a verdict. */
export function colour(verdict: string): string {
  return `var(--${verdict})`;
}
