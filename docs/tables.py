"""Renders the tables of scores in these pages from the score files beside them.

    python docs/tables.py

rewrites what stands in `results/*.md` between `<!-- table: NAME -->` and
`<!-- end -->`.
A test fails when a page no longer says what its score file does.
"""

import csv
import json
import pathlib
import re

DOCS = pathlib.Path(__file__).parent
RESULTS = DOCS / "results"
TABLE = re.compile(r"(<!-- table: ([\w.]+) -->\n).*?(<!-- end -->)", re.S)


def render(text):
    """The page `text` with every table rendered anew."""
    return TABLE.sub(lambda m: f"{m[1]}{TABLES[m[2]]()}{m[3]}", text)


def table(head, rows):
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def read(name):
    """A JSON score file."""
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


def scores(values):
    """`21.4 / 20.8 / 53.8`; nothing where nothing was measured."""
    return " / ".join(f"{x:.1f}" for x in values) if values else ""


def captioners():
    """Greedy, with beams, and by default."""
    ways = ("greedy", "beam 3", "beam 5", "by default")
    rows = [
        [
            row["captioner"],
            *(scores(row[way]) for way in ways),
            row["minutes"] or "",
            row["memory_gb"] or "",
        ]
        for row in read("photographs")["captioners"]
    ]
    return table(["", *ways, "min", "GB"], rows)


def seeds():
    """Three random starts of one recipe."""
    costs = ("greedily", "by default")
    rows = [
        [
            row["captioner"],
            scores(row["greedy"]),
            scores(row["by default"]),
            *(row[f"random locations cost, {how}"] or "" for how in costs),
        ]
        for row in read("photographs")["seeds"]
    ]
    head = ["", "greedy", "by default"]
    return table(head + [f"random locations cost, {how}" for how in costs], rows)


def conventions():
    """What one caption scores under each convention."""
    ways = ("token file", "longest first")
    rows = [
        [row["convention"], *(scores(row[way]) for way in ways)]
        for row in read("photographs")["conventions"]
    ]
    head = ["Convention", "order of the token file", "longest first, as the authors'"]
    return table(head, rows)


def demo():
    """What `sat-tf demo` reaches."""
    rows = [
        [row["row"], row["pointing"], row["captions"]]
        for row in read("drawings")["demo"]
    ]
    head = ["", "right location of the content words", "captions wholly true"]
    return table(head, rows)


def bench(name):
    """The summary of a bench."""
    with open(DOCS / f"estimators_{name}.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    percent = 1e5 if name == "flickr8k" else 1e2
    unit = "10^-5 of the paper's" if name == "flickr8k" else "% of the paper's"
    head = ["", f"variance x time, {unit}", "ms", "MB", rows[0]["score"]]
    head += ["nats a word", "time, %"]
    cells = [_bench_row(row, percent) for row in rows]
    if "final_generated_pointing" in rows[0]:
        head += ["own words: pointing (middle)", "given words"]
        for row, line in zip(rows, cells, strict=True):
            line += [_looks(row, kind) for kind in ("generated", "given")]
    return table(head, cells)


def _looks(row, kind):
    """Where it looks, and what the middle of the image shows."""
    found = row[f"final_{kind}_pointing"]
    if not found:
        return ""
    return f"{float(found):.3f} ({float(row[f'final_{kind}_middle']):.3f})"


def _bench_row(row, percent):
    number = {k: float(v) if _is_number(v) else None for k, v in row.items()}
    costs = (number["logits_vs_paper"], number["attention_vs_paper"])
    share = number["share_of_paper"]
    scale = 1 if row["score"].startswith("bleu") else 100
    final = [number[f"final_{x}"] * scale for x in ("score", "low", "high")]
    return [
        f"`{row['estimator']}`",
        " / ".join("" if c is None else f"{c * percent:,.3g}" for c in costs),
        f"{number['ms']:,.0f}",
        f"{number['memory_mb']:,.0f}",
        "{:.1f} ({:.1f} to {:.1f})".format(*final),
        f"{number['final_log_likelihood']:.2f}",
        "" if share is None else f"{share:.0%}".rstrip("%"),
    ]


def _is_number(text):
    try:
        float(text)
    except (TypeError, ValueError):
        return False
    return True


def columns(name, part, head):
    """Rows of a JSON score file, its values in their order."""
    return table(head, [row.values() for row in read(name)[part]])


def compared(on="compared"):
    """What benchmarks/compare.py measured on a machine, one row for each figure."""
    report = read("speed").get(on)
    if report is None:
        return "Not measured yet.\n"
    rows = []
    for name, measured in report["measurements"].items():
        errors = {x["side"]: "no figure" for x in measured["runs"] if "error" in x}
        for figure in measured["figures"]:
            sides = (_median(figure[x]) or errors.get(x, "") for x in SIDES)
            ratio = figure["ratio"]
            if ratio:
                low, high = _short(ratio["min"]), _short(ratio["max"])
                ratio = f"{_short(ratio['median'])} ({low} to {high})"
            rows.append(
                [f"`{name}`", figure["says"], *sides, ratio or "", figure["target"]]
            )
    head = ["", "measurement", *SIDES, "after / before (min to max)", "target"]
    return table(head, rows)


SIDES = ("before", "after")


def _median(found):
    return "" if found is None else _short(found["median"])


def _short(number):
    """Three digits that count: 831, 16.1, 0.594."""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"


def compared_on(on="compared"):
    """What a comparison ran on, and what was compared."""
    report = read("speed").get(on)
    if report is None:
        return ""
    machine, versions = report["machine"], report["versions"]
    rates = machine["product_gflop_per_s"]
    rows = [
        [side, f"`{report[side]['commit']}`: {report[side]['title']}"] for side in SIDES
    ]
    rows += [
        ["date", report["date"]],
        ["processor", f"{machine['processor']}, {machine['cores']} cores"],
        ["memory", f"{machine['memory_gb']} GiB"],
        ["instruction sets", ", ".join(machine["instruction_sets"])],
        ["product rate", ", ".join(f"{n}: {r:,} GFLOP/s" for n, r in rates.items())],
        ["versions", ", ".join(f"{n} {v}" for n, v in versions.items())],
        ["pictures", "photographs" if report["photographs"] else "drawn"],
        ["sizes", "small, as a try" if report["quick"] else "full"],
    ]
    return table(["", ""], rows)


def gpu():
    """What benchmarks/run_programs.py measured on a GPU, a row for each program."""
    rows = []
    for line in sorted(read("gpu")["lines"], key=_program):
        launches, busy = line["launches"], line["busy_ms"]
        rows.append(
            [
                *_program(line),
                _short(line["ms"]),
                f"{line['share']:.3f}",
                _short(busy),
                launches,
                _short(1e3 * busy / launches),
                _short(line["compiled_in_s"]),
            ]
        )
    columns = ["ms", "share", "busy, ms", "kernels", "their mean, us", "to compile, s"]
    return table(["", "precision", "batch", *columns], rows)


def _program(line):
    """Its name, precision and batch size."""
    name, batch = line["program"].split("_batch_")
    for dtype in ("_float32", "_mixed_bfloat16"):
        name = name.removesuffix(dtype)
    return name.replace("_", " "), line["precision"], int(batch)


TABLES = {
    "gpu": gpu,
    "photographs.captioners": captioners,
    "photographs.seeds": seeds,
    "photographs.seeds_look": lambda: columns(
        "photographs", "seeds_look", list(read("photographs")["seeds_look"][0])
    ),
    "photographs.conventions": conventions,
    "drawings.demo": demo,
    "bench.scenes": lambda: bench("scenes"),
    "bench.flickr8k": lambda: bench("flickr8k"),
    "speed.compared": compared,
    "speed.compared_on": compared_on,
    "speed.compared_amd": lambda: compared("compared_amd"),
    "speed.compared_amd_on": lambda: compared_on("compared_amd"),
    "speed.train_step": lambda: columns(
        "speed",
        "train_step",
        ["ms", "captions/s", "GFLOP", "share of the product rate", "peak memory, GB"],
    ),
    "speed.decode": lambda: columns(
        "speed",
        "decode",
        ["", "ms an image", "share of the floor", "times the usual beam 3"],
    ),
    "speed.serve_photographs": lambda: columns(
        "speed", "serve_photographs", ["clients", "p50, ms", "p95, ms", "captions/s"]
    ),
    "speed.serve": lambda: columns(
        "speed", "serve", ["clients", "p50, ms", "p95, ms", "p99, ms", "captions/s"]
    ),
}


def main():
    """Rewrites the pages."""
    for page in RESULTS.glob("*.md"):
        text = page.read_text("utf-8")
        if (new := render(text)) != text:
            page.write_text(new, "utf-8")
            print(f"Rendered {page.name}.")


if __name__ == "__main__":
    main()
