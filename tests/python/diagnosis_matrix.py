"""The confusion matrix of docs/diagnosis.md: causes planted in our own executor by diagnose_matrix_tool, and what the diagnosis made of them.

    python tests/python/diagnosis_matrix.py [--whole] [--seed 1]

prints it, of the sample that the suite takes or of every cause that can be planted."""

import argparse
import collections
import json
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "diagnosis.md"
BEGIN, END = "<!-- the matrix: written by tests/python/test_diagnosis_matrix.py -->\n", "<!-- the end of the matrix -->"
CHECKPOINTS = ("llama", "qwen3", "olmoe", "gemma2", "gpt_oss", "qwen3_5", "deepseek_v4")
# What is captured, what is planted, how many of it.
SAMPLE = (
    ("all", "singles", 12), ("all", "pairs", 4), ("blocks", "singles", 4), ("blocks", "pairs", 2), ("logits", "singles", 2),
    ("all", "unknown", 10), ("all", "right", 0), ("blocks", "right", 0), ("logprobs", "right", 0),
)  # fmt: skip
WHOLE = (("all", "singles", 10**6), ("all", "pairs", 100), ("blocks", "singles", 60), ("blocks", "pairs", 20), ("logits", "singles", 20), *SAMPLE[5:])


def runs(tool, plan, seed=1):
    """Every run of the plan, as the tool's lines say it."""
    for name in CHECKPOINTS:
        for captured, what, most in plan:
            command = [tool, name, captured, what, str(most), str(seed)]
            lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
            yield from (json.loads(line) | {"at_once": what} for line in lines)


def by_row(row):
    return int(re.match(r"\d+", row)[0]), row


class Matrix:
    def __init__(self, lines):
        self.lines = list(lines)

    def of(self, what):
        return [line for line in self.lines if line["at_once"] == what]

    def share(self, what, key):
        """Of the runs, those in which all that was planted is right by `named` or `at_stage`."""
        chosen = self.of(what)
        return sum(all(line[key]) for line in chosen) / len(chosen)

    def alarms(self):
        return [line for line in self.of("right") if line["alarms"]]

    def missed(self):
        return [
            f"{line['checkpoint']}, {line['captured']}: {'; '.join(p['text'] for p in line['planted'])} came out as {line['findings'] or 'nothing'}"
            for line in self.lines
            if line["at_once"] != "right" and not (all(line["named"]) and all(line["at_stage"]))
        ]

    def text(self):
        """Two tables: what each row was named, and what each checkpoint gave."""
        count = collections.defaultdict(collections.Counter)
        for what in ("singles", "pairs"):
            for line in self.of(what):
                for plant, named in zip(line["planted"], line["named"], strict=True):
                    taken = plant["row"] if named else next((row for row in line["rows"]), "") or "unexplained"
                    count[plant["row"]][what, taken] += 1
        out = ["| planted | alone | named so | in pairs | named so | taken for |", "|---|---|---|---|---|---|"]
        for row in sorted(count, key=by_row):
            numbers = []
            for what in ("singles", "pairs"):
                numbers += [sum(n for (w, _), n in count[row].items() if w == what), count[row][what, row]]
            others = collections.Counter()
            for (_, taken), n in count[row].items():
                others[taken] += n if taken != row else 0
            out.append(f"| {row} | {' | '.join(map(str, numbers))} | {', '.join(f'{t} × {n}' for t, n in sorted(others.items()) if n)} |")
        unknown, right = self.of("unknown"), self.of("right")
        out.append(f"| no row | {len(unknown)} | {sum(all(line['named']) for line in unknown)} unexplained | | | |")
        out.append(f"| nothing | {len(right)} | {len(right) - len(self.alarms())} benign | | | |")
        out += ["", "| checkpoint | captured | planted | runs | at their stage | named |", "|---|---|---|---|---|---|"]
        groups = collections.defaultdict(list)
        for line in self.lines:
            if line["at_once"] != "right":
                groups[line["checkpoint"], line["captured"], line["at_once"]].append(line)
        for key, lines in groups.items():
            right = [sum(all(line[k]) for line in lines) for k in ("at_stage", "named")]
            out.append(f"| {' | '.join(key)} | {len(lines)} | {right[0]} | {right[1]} |")
        missed = self.missed()
        if missed:
            out += ["", "Not named, or not at their stage:", "", *(f"* {text}" for text in missed)]
        return "\n".join(out) + "\n"


def written():
    """What the page holds."""
    return PAGE.read_text().split(BEGIN)[1].split(END)[0]


def write(text):
    before, after = PAGE.read_text().split(BEGIN)
    PAGE.write_text(before + BEGIN + text + END + after.split(END)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(Matrix(runs(ROOT / "build/release/tests/diagnose_matrix_tool", WHOLE if options.whole else SAMPLE, options.seed)).text(), end="")


if __name__ == "__main__":
    main()
