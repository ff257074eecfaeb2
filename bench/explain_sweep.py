"""What `neocog.explaining` says of every network of the zoo, against judges.

    python bench/explain_sweep.py arithmetic [--layers 2] [PATTERN]

arithmetic: of each network under drawn weights so many layers, and of each two units, one anywhere and one in a corner:
the sum of products and bias against torch.nn.functional in double, and the steps that follow against the functions
whose names they bear. The error is that of the sum, as a share of the sizes of its terms. Exit code 1 where one is
above 1e-6, or a layer has no signal to compare.
"""

import argparse
import sys
import time
from pathlib import Path

from machine import describe

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from neocog.core.registry import names
from zoo_units import swept

CLOSE, SIGNAL = 1e-6, 1e-4


def arithmetic(pattern: str, layers: int) -> bool:
    """A line for each network; whether all is well."""
    began, wrong, units, followed, worst = time.monotonic(), [], 0, 0, 0.0
    print(f"{'network':24}{'layers':>7}{'units':>7}{'steps':>7}{'error':>10}{'signal':>10}")
    for name in names(pattern):
        try:
            found = swept(name, layers)
        except Exception as error:  # one network that fails says nothing of the next
            print(f"{name:24} {type(error).__name__}: {error}")
            wrong.append(name)
            continue
        print(f"{name:24}{found.layers:7}{found.units:7}{found.followed:7}{found.worst:10.1e}{found.signal:10.1e}")
        units, followed, worst = units + found.units, followed + found.followed, max(worst, found.worst)
        if found.worst > CLOSE or found.signal < SIGNAL:
            wrong.append(name)
    print(f"{units} units and {followed} steps after them; the largest error is {worst:.1e}; wrong: {wrong or 'none'}")
    print(f"{time.monotonic() - began:.0f} s. {describe()}")
    return not wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    sweeps = parser.add_subparsers(dest="sweep", required=True)
    one = sweeps.add_parser("arithmetic", help="the sums of units")
    one.add_argument("pattern", nargs="?", default="*", help="networks (default: all)")
    one.add_argument("--layers", type=int, default=2, help="of each network")
    words = parser.parse_args()
    raise SystemExit(0 if arithmetic(words.pattern, words.layers) else 1)


if __name__ == "__main__":
    main()
