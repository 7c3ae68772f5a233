"""The measured table of docs/parity.md: the tests fill it in, the terminal summary prints it, --write-parity-doc stores it."""
import pathlib

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs" / "parity.md"
START, END = "<!-- measured: pytest --write-parity-doc -->", "<!-- end of what is measured -->"

# Field of a row, heading. A test that measures something new adds its column here.
COLUMNS = (
    ("fp32_worst", "fp32 worst"),
    ("fp32_median", "fp32 median"),
    ("argmax", "argmax"),
    ("greedy", "greedy"),
    ("splits", "chunks, threads"),
    ("bf16_ratio", "bf16 ratio"),
    ("bf16_greedy", "bf16 decisive"),
    ("facts", "facts"),
)


class ParityTable:
    def __init__(self, live_seed):
        self._rows = {}
        self._live = {}
        self._live_seed = live_seed

    def record(self, checkpoint, form, **fields):
        unknown = set(fields) - {name for name, _ in COLUMNS}
        assert not unknown, f"no column for {unknown}"
        self._rows.setdefault((checkpoint, form), {}).update(fields)

    def record_live(self, case, **fields):
        self._live.setdefault(case, {}).update(fields)

    def missing(self, expected):
        """What a complete run would have measured and this one has not: rows, and in each the fields that every row has."""
        always = ("fp32_worst", "argmax", "greedy", "splits", "bf16_ratio", "bf16_greedy")
        gaps = [f"{c} {form}: {f}" for c, form in expected for f in always if f not in self._rows.get((c, form), {})]
        return gaps if self._live else [*gaps, "the live models"]

    def markdown(self):
        parts = []
        if self._rows:
            body = [[c, form, *(row.get(f, "") for f, _ in COLUMNS)] for (c, form), row in sorted(self._rows.items())]
            parts.append(_table(["checkpoint", "configuration", *(heading for _, heading in COLUMNS)], body))
        if self._live:
            names = list(dict.fromkeys(name for fields in self._live.values() for name in fields))
            headings = ["live model", *names]
            body = [[case, *(fields.get(name, "") for name in names)] for case, fields in self._live.items()]
            parts.append(f"Live models of seed {self._live_seed}:\n\n" + _table(headings, body))
        return "\n".join(parts)

    def write(self):
        before, _, rest = DOCUMENT.read_text().partition(START)
        _, _, after = rest.partition(END)
        DOCUMENT.write_text(f"{before}{START}\n\n{self.markdown()}\n{END}{after}")


def _table(headings, body):
    rows = [headings, *([str(cell) for cell in row] for row in body)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(headings))]
    lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |" for row in rows]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"
