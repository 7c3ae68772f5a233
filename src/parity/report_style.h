// The style sheet of report_html.cpp. Steps s0 to s2 are within the budget (blue), s3 to s7 beyond it (yellow to dark red):
// their lightness
// falls step by step, so that they are told apart without hues.
#pragma once
#include <string_view>

namespace plumb {

inline constexpr std::string_view kReportStyle = R"css(
:root { --bg: #ffffff; --fg: #1b1f24; --soft: #59636e; --line: #d8dee4; --panel: #f6f8fa;
  --good: #1a7f37; --bad: #b3261e; --unclear: #8a6100;
  --s0: #edf4fc; --s1: #cfe2f6; --s2: #a6caec; --s3: #ffe08a; --s4: #fdb863; --s5: #ec7c3c; --s6: #c7351f; --s7: #7a0f1c;
  --t0: #1b1f24; --t6: #ffffff; --none: #eceff2; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #0d1117; --fg: #e6edf3; --soft: #9aa5b1; --line: #30363d; --panel: #161b22;
    --good: #3fb950; --bad: #ff7b72; --unclear: #e3b341;
    --s0: #17273b; --s1: #1f3d60; --s2: #2c5a8c; --s3: #8a6d12; --s4: #b5651d; --s5: #e07b39; --s6: #ff9c7a; --s7: #ffd7cc;
    --t0: #e6edf3; --t6: #1b0b06; --none: #21262d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--fg); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 24px 20px 48px; }
header { border-left: 6px solid var(--soft); background: var(--panel); border-radius: 6px; padding: 14px 20px 16px; }
header.good { border-color: var(--good); } header.bad { border-color: var(--bad); }
header.unclear { border-color: var(--unclear); }
.command { margin: 0; color: var(--soft); font: 13px/1.5 ui-monospace, monospace; }
h1 { margin: 4px 0 0; font-size: 19px; font-weight: 600; line-height: 1.4; overflow-wrap: anywhere; }
.badge { color: var(--soft); text-transform: uppercase; letter-spacing: .04em; margin-right: 4px; }
.good .badge { color: var(--good); } .bad .badge { color: var(--bad); } .unclear .badge { color: var(--unclear); }
.summary { font-weight: 400; }
dl { display: flex; flex-wrap: wrap; gap: 6px 28px; margin: 12px 0 0; } dt { color: var(--soft); font-size: 12px; }
dd { margin: 0; font-size: 14px; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 30px 0 6px; } .note { margin: 0 0 8px; color: var(--soft); font-size: 13.5px; max-width: 90ch; }
.scroll { overflow-x: auto; max-width: 100%; } .maps { display: flex; flex-wrap: wrap; gap: 28px; align-items: flex-start; }
table { border-collapse: collapse; } caption { text-align: left; color: var(--soft); font-size: 12px; padding: 0 0 4px; }
table.data { font-size: 13.5px; width: 100%; } table.data th { text-align: left; font-weight: 600; color: var(--soft); }
table.data th, table.data td { border-bottom: 1px solid var(--line); padding: 5px 14px 5px 0; vertical-align: top;
overflow-wrap: anywhere; }
table.data td { font-variant-numeric: tabular-nums; }
table.data .num { text-align: right; white-space: nowrap; overflow-wrap: normal; }
table.data td:first-child { font-family: ui-monospace, monospace; font-size: 13px; }
table.map { font: 11.5px/1 ui-monospace, monospace; }
table.map th { font-weight: 400; color: var(--soft); text-align: right; padding: 0 8px 0 0; }
table.map thead th { vertical-align: bottom; } th.up { padding: 0 0 6px !important; height: 1px; }
th.up span { writing-mode: vertical-rl; transform: rotate(180deg); white-space: nowrap; display: inline-block;
color: var(--fg); width: 26px;
  line-height: 26px; max-height: 190px; overflow: hidden; text-align: left; }
td.c, td.e { width: 27px; min-width: 27px; height: 23px; text-align: center; border: 1px solid var(--bg); padding: 0;
color: var(--t0); }
.s0 { background: var(--s0); fill: var(--s0); } .s1 { background: var(--s1); fill: var(--s1); }
.s2 { background: var(--s2); fill: var(--s2); }
.s3 { background: var(--s3); fill: var(--s3); } .s4 { background: var(--s4); fill: var(--s4); }
.s5 { background: var(--s5); fill: var(--s5); }
.s6 { background: var(--s6); fill: var(--s6); } .s7 { background: var(--s7); fill: var(--s7); }
.n { background: var(--none); fill: var(--none); }
td.s3, td.s4, td.s5, td.s6, td.s7 { font-weight: 700; } td.s6, td.s7, .key.s6, .key.s7 { color: var(--t6); }
@media (prefers-color-scheme: dark) { td.s5, .key.s5 { color: var(--t6); } }
.scale { display: flex; flex-wrap: wrap; gap: 2px; margin: 0 0 12px; font-size: 12px; align-items: center; }
.say { color: var(--soft); margin-right: 6px; }
.key { padding: 2px 9px; color: var(--t0); } .key.n { color: var(--soft); margin-left: 8px; }
svg text { font: 11.5px ui-monospace, monospace; fill: var(--soft); } svg .label { text-anchor: end; fill: var(--fg); }
svg .tick { text-anchor: middle; } svg .mark { stroke: var(--fg); stroke-width: 1; stroke-dasharray: 3 2; }
ul { margin: 4px 0 0; padding-left: 20px; } li { margin: 2px 0; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 10px 12px; overflow-x: auto;
font-size: 13px; margin: 6px 0; }
@media print { header, td, rect, .key { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
)css";

}  // namespace plumb
