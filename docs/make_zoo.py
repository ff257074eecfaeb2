"""Prints docs/zoo.md: every network of the zoo with its facts, straight from the Specs. `scripts/docs` writes it."""

from neocog.app.zoo import describe_models

HEAD = """# The zoo

Written by `scripts/docs` from the facts that stand beside each network's builder; the tests recount parameters and
multiply-accumulates and compare the outputs with other libraries'.

Parameters and multiply-accumulates (MACs: of convolutions and matrix products, for one picture) are in millions, at
the input shown, without auxiliary heads. Top-1 and top-5 are the publisher's accuracies in percent on ImageNet's
validation pictures, of the weights that `weights="imagenet"` means; files not named by an ImageNet figure have none.
"""


def page() -> str:
    rows = sorted(describe_models(), key=lambda row: (row["year"], row["paper"]))
    lines = [HEAD, f"{len(rows)} networks from {len({row['paper'] for row in rows})} papers.", ""]
    lines += ["| network | year | idea | file | input | params | MACs | top-1 | top-5 |", "|---" * 9 + "|"]
    for row in rows:
        cells = [
            f"`{row['name']}`", f"[{row['year']}]({row['link']})", row["idea"],
            f"[{row['file']}](../src/neocog/{row['file']})", row["input"],
            millions(row["params"]), millions(row["macs"]), percent(row["top1"]), percent(row["top5"]),
        ]  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "## Published weights", ""]
    lines += ["The first of a network's is its default. Files are downloaded once, from where they were published, and"]
    lines += ["their hash is checked; `neocog models NAME` shows which are at hand.", ""]
    lines += ["| network | weights | top-1 | top-5 | size | sha256 begins | layout | licence |", "|---" * 8 + "|"]
    for row in sorted(rows, key=lambda row: row["name"]):
        for w in row["published"]:
            tags = ", ".join(f"`{tag}`" for tag in (w["tag"], *w["aliases"]))
            cells = [
                f"`{row['name']}`", f"{tags} ([file]({w['url']}))", percent(w["top1"]), percent(w["top5"]),
                str(w["preprocessing"]["size"]), f"`{w['sha256']}`", w["layout"], w["licence"],
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def millions(n: int) -> str:
    return f"{n / 1e6:,.2f}" if n < 1e8 else f"{n / 1e6:,.1f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    print(page(), end="")
