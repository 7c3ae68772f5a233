"""Plumb against llama.cpp's llama-bench (or ik_llama.cpp's), run alternately on the same files; prints Markdown.

Usage: python bench/versus.py PLUMB LLAMA-BENCH FILE.gguf... [--pairs 4] [-p 512] [-n 64] [-t N] [--peer-name llama.cpp]
       [--plumb-options "--executor cpu"] [--peer-options "-fa 1"] [--into docs/performance.md] [--samples FILE.json]

A run loads the file, warms up and times each test once. Runs alternate, in the order ABBA, so that what drifts on the machine
meets both; a ratio is made of two neighbouring runs only. `plumb bench` measures the machine's ceilings beside its own runs, and
a peer's share is taken of those of its neighbour. --into replaces what lies between the peer's two marks in that file, so that a page
holds a table for each peer. bench/make_shapes.py makes files.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys

BEGIN, END = "<!-- measured by bench/versus.py against {} -->\n", "<!-- end of what was measured against {} -->\n"


def run(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}: exit {done.returncode}: {done.stderr.strip()[-2000:]}")
    return json.loads(done.stdout)


def tests_of(arguments):
    """Options that the two programs share."""
    return ["-p", arguments.prompt, "-n", arguments.generate, "-t", arguments.threads, "-r", 1, "-o", "json"]


def run_plumb(arguments, file):
    return run([arguments.plumb, "bench", file, *tests_of(arguments), *shlex.split(arguments.plumb_options)])


def run_peer(arguments, file):
    """Tokens a second by test name."""
    rows = run([arguments.peer, "-m", file, *tests_of(arguments), *shlex.split(arguments.peer_options)])
    return {f"pp{row['n_prompt']}" if row["n_prompt"] else f"tg{row['n_gen']}": row["avg_ts"] for row in rows}


def measure(arguments, file):
    """Pairs of neighbouring runs: (plumb's report, the peer's rates)."""
    pairs = []
    for i in range(arguments.pairs):
        print(f"{file.name}: pair {i + 1} of {arguments.pairs}", file=sys.stderr, flush=True)
        if i % 2 == 0:
            ours = run_plumb(arguments, file)
            pairs.append((ours, run_peer(arguments, file)))
        else:
            theirs = run_peer(arguments, file)
            pairs.append((run_plumb(arguments, file), theirs))
    return pairs


def spread(samples, form):
    return f"{form.format(statistics.median(samples))} ({form.format(min(samples))} to {form.format(max(samples))})"


def share_of(row, rate):
    """The part of the ceiling that this many tokens a second would be, by plumb's own share and rate."""
    limit = row["memory"] if row["generate"] else row["products"]
    return limit["share"] * rate / row["tokens_per_second"]


def rows_of(file, pairs):
    """Markdown rows of one file, one for each test."""
    lines = []
    for test in (row["test"] for row in pairs[0][0]["rows"]):
        ours = [next(row for row in report["rows"] if row["test"] == test) for report, _ in pairs]
        theirs = [rates[test] for _, rates in pairs]
        ratios = [row["tokens_per_second"] / rate for row, rate in zip(ours, theirs)]
        our_share = spread([100 * share_of(row, row["tokens_per_second"]) for row in ours], "{:.0f}")
        their_share = spread([100 * share_of(row, rate) for row, rate in zip(ours, theirs)], "{:.0f}")
        of = "memory" if ours[0]["generate"] else ours[0]["products"]["of"]
        lines.append(f"| {file.stem} | {test} | {spread(ratios, '{:.2f}')} | {of} | {our_share} | {their_share} |")
    return lines


def ceilings_of(reports):
    samples = {}
    for report in reports:
        for row in report["ceilings"]:
            key = (row["ceiling"], row["instructions"], row["threads"], row["unit"])
            samples.setdefault(key, []).extend(row["samples"])
    return [f"| {name} | {path} | {threads} | {spread(found, '{:.0f}')} {unit} |"
            for (name, path, threads, unit), found in samples.items()]


def cpu_flags():
    try:
        line = next(line for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return "unknown"
    wanted = ("avx2", "fma", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16")
    return ", ".join(flag for flag in wanted if flag in line.split())


def markdown(arguments, measured):
    reports = [report for pairs in measured.values() for report, _ in pairs]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = os.getloadavg()[1]
    alone = [run([arguments.plumb, "bench", "-r", 3, "-t", t, "-o", "json"]) for t in sorted({1, arguments.threads})]
    machine, peer = reports[0], arguments.peer_name
    paths = "`, `".join(dict.fromkeys(row["path"] for report in reports for row in report["rows"]))  # one for each kind of file
    settings = f"{peer} {arguments.peer_options}".strip()
    lines = [f"{datetime.date.today()}, {machine['processor']}, {machine['cores']} cores, {memory:.0f} GiB, {platform.system()} "
             f"{platform.release()}; {cpu_flags()}. Load average over the last 5 minutes: {load:.1f}.", "",
             f"{arguments.pairs} pairs of runs in the order ABBA, {arguments.threads} threads; each cell is the median "
             f"(lowest to highest). Plumb: `{paths}`. Peer: {settings}.", "",
             f"| file | test | Plumb / {peer} | ceiling | Plumb, % of it | {peer}, % of it |", "|---|---|---|---|---|---|"]
    for file, pairs in measured.items():
        lines += rows_of(file, pairs)
    lines += ["", "Ceilings, measured after the runs; the shares above are of those measured beside each run:", "",
              "| ceiling | instructions | threads | |", "|---|---|---|---|", *ceilings_of(alone)]
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("plumb", type=pathlib.Path, help="the plumb to measure: build/release/plumb")
    parser.add_argument("peer", type=pathlib.Path, help="a llama-bench, of llama.cpp or ik_llama.cpp")
    parser.add_argument("files", type=pathlib.Path, nargs="+", help="GGUF files that both read; bench/make_shapes.py makes some")
    parser.add_argument("-p", "--prompt", type=int, default=512, help="ids in a prompt (default: %(default)s)")
    parser.add_argument("-n", "--generate", type=int, default=64, help="tokens generated (default: %(default)s)")
    parser.add_argument("-t", "--threads", type=int, default=len(os.sched_getaffinity(0)), help="default: every core, here %(default)s")
    parser.add_argument("--pairs", type=int, default=4, help="pairs of runs for each file (default: %(default)s)")
    parser.add_argument("--plumb-options", default="--executor cpu", help="more options of plumb bench (default: %(default)s)")
    parser.add_argument("--peer-options", default="", help='more options of the peer, say "-fa 1"')
    parser.add_argument("--peer-name", default="llama.cpp", help="what the table calls the peer (default: %(default)s)")
    parser.add_argument("--into", type=pathlib.Path, help="a page whose table against this peer is replaced")
    parser.add_argument("--samples", type=pathlib.Path, help="write each run's report here, as JSON")
    arguments = parser.parse_args()
    begin, end = BEGIN.format(arguments.peer_name), END.format(arguments.peer_name)
    if arguments.into and any(arguments.into.read_text().count(mark) != 1 for mark in (begin, end)):
        sys.exit(f"{arguments.into}: needs the lines {begin.strip()} and {end.strip()}, once each")
    measured = {file: measure(arguments, file) for file in arguments.files}
    text = markdown(arguments, measured)
    print(text, end="")
    if arguments.samples:
        arguments.samples.write_text(json.dumps({str(file): pairs for file, pairs in measured.items()}, indent=1))
    if arguments.into:
        document = arguments.into.read_text()
        before, rest = document.split(begin)
        arguments.into.write_text(f"{before}{begin}\n{text}\n{end}{rest.split(end)[1]}")


if __name__ == "__main__":
    main()
