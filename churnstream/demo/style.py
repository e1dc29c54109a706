"""How the page about a run looks, by day and by night."""

STYLE = """
:root {
  --ink: #1d2733; --grey: #5b6875; --line: #dde3e9; --page: #f6f8fa; --card: #ffffff;
  --river: #0b6e8f; --good: #1a7f4b; --bad: #b3261e; --mind: #8a5a00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6edf3; --grey: #9aa7b4; --line: #30363d; --page: #0d1117; --card: #161b22;
    --river: #4fb8d8; --good: #4ac585; --bad: #ff8a80; --mind: #e3b341;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main { max-width: 1060px; margin: 0 auto; padding: 40px 20px 64px; }
h1 { font-size: 27px; margin: 0 0 2px; letter-spacing: -0.01em; }
h2 { font-size: 18px; margin: 40px 0 12px; }
p { margin: 0 0 8px; }
.quiet { color: var(--grey); }
.counts { display: grid; grid-template-columns: repeat(auto-fit, minmax(128px, 1fr)); gap: 10px; margin-top: 22px; }
.count, .card, .scroll { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.count { padding: 12px 14px; }
.count b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; }
.count span { color: var(--grey); font-size: 13px; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(310px, 1fr)); gap: 12px; }
.card { display: flex; gap: 14px; padding: 14px 16px; color: inherit; text-decoration: none; }
a.card:hover, a.card:focus-visible { border-color: var(--river); }
.number {
  flex: none; width: 38px; height: 38px; border-radius: 50%; display: grid; place-items: center;
  background: var(--river); color: var(--card); font-weight: 700;
}
.card b { display: block; line-height: 1.3; }
.card small { color: var(--grey); font-size: 13px; }
.card .done { color: var(--good); }
.card .failed { color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th, td { padding: 8px 14px; text-align: left; white-space: nowrap; border-top: 1px solid var(--line); }
tr:first-child th { border-top: 0; color: var(--grey); font-weight: 600; }
.right { text-align: right; font-variant-numeric: tabular-nums; }
.mind, .stopped { border-left: 3px solid var(--mind); padding: 2px 0 2px 12px; max-width: 90ch; overflow-wrap: anywhere; }
.stopped { border-color: var(--bad); margin: 18px 0; }
svg { max-width: 100%; height: auto; display: block; }
"""
