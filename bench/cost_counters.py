"""What counts a network's parameters and multiply-accumulates rightly: neocog beside its peers, before a judge.

    python bench/cost_counters.py [--rounds N] >docs/counters.md
    python bench/cost_counters.py --again >docs/counters.md  (the last run's numbers once more, with today's text)

The judges are torchvision's published counts for its networks, and sums written by hand for the cases that
counters stumble over. Each counter has its own process for all cases, where it is used as its manual shows, on one
picture. Time and memory are taken in a fresh process each, in turns that rotate. A rival that raises "fails" in that
row; one that is not installed is named and left out. `pip install -c constraints.txt -e ".[bench]"` brings them.
"""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from counter_cases import NETWORKS, TOLERANCE, TRICKY, Case, network_case
from machine import describe, idle_share
from torch import Tensor, nn

HERE = Path(__file__).resolve().parent
NOT_ON_META = "not on meta"


@dataclass
class Found:
    """A counter's answer."""

    macs: int
    params: int | None = None
    warned: bool = False  # it said that it left something out


MEASURED = ("resnet50", "vit_b_16", "vit_l_16")


# The counters: each imports what it needs and returns how it counts a case

Counter = Callable[[nn.Module, Tensor, Case], Found]


class ForwardOnly(Exception):
    """A counter has no way to count a backward pass."""


def run(module: nn.Module, x: Tensor, case: Case) -> None:
    module.train(case.training)
    if case.backward:
        module(x.requires_grad_()).sum().backward()
    else:
        module(x)


def neocog() -> Counter:
    from neocog.app.costing import cost
    from neocog.costs.count import MacCounter

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        if case.training or case.backward or case.on_cpu:
            with MacCounter() as counter:
                run(module, x, case)
            return Found(counter.macs, None, bool(counter.unknown))
        table = cost(module, inputs=[x])
        return Found(table.macs, table.params, bool(table.partial))

    return count


def torchinfo() -> Counter:
    from torchinfo import summary

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        _forward_only(case)
        found = summary(module, input_data=[x], verbose=0, mode="train" if case.training else "eval", device=x.device)
        return Found(found.total_mult_adds, found.total_params)

    return count


def fvcore() -> Counter:
    import logging

    from fvcore.nn import FlopCountAnalysis, parameter_count

    logging.disable()  # what it warns of is asked for below

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        _forward_only(case)
        found = FlopCountAnalysis(module.train(case.training), x)
        return Found(round(found.total()), parameter_count(module)[""], bool(found.unsupported_ops()))

    return count


def ptflops(backend: str) -> Counter:
    from ptflops import get_model_complexity_info

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        _forward_only(case)
        said = io.StringIO()
        macs, params = get_model_complexity_info(
            module, tuple(x.shape[1:]), input_constructor=lambda _: x, as_strings=False, backend=backend,
            print_per_layer_stat=False, verbose=True, ost=said,
        )  # fmt: skip
        if macs is None:
            raise RuntimeError("ptflops said that it could not finish")
        return Found(round(macs), params, "zero-op" in said.getvalue())

    return count


def thop() -> Counter:
    from thop import profile

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        _forward_only(case)
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            macs, params = profile(module, inputs=(x,), report_missing=True)
        return Found(round(macs), round(params), "Cannot find rule" in said.getvalue())

    return count


def flop_counter() -> Counter:
    from torch.utils.flop_counter import FlopCounterMode

    def count(module: nn.Module, x: Tensor, case: Case) -> Found:
        with FlopCounterMode(display=False) as counter:
            run(module, x, case)
        return Found(counter.get_total_flops() // 2)

    return count


def _forward_only(case: Case) -> None:
    if case.backward:
        raise ForwardOnly


# name -> (distribution, counter, on the meta device)
TOOLS: dict[str, tuple[str, Callable[[], Counter], bool]] = {
    "neocog": ("neocog", neocog, False),
    "torchinfo": ("torchinfo", torchinfo, False),
    "fvcore": ("fvcore", fvcore, False),
    "ptflops": ("ptflops", lambda: ptflops("pytorch"), False),
    "ptflops, aten": ("ptflops", lambda: ptflops("aten"), False),
    "thop": ("thop", thop, False),
    "FlopCounterMode": ("torch", flop_counter, False),
    "FlopCounterMode, meta": ("torch", flop_counter, True),
}


def answer(counter: Counter, case: Case, meta: bool = False) -> Found | str:
    """What the counter finds, or why it finds nothing."""
    if meta and case.on_cpu:
        return NOT_ON_META
    with torch.device("meta" if meta else "cpu"):
        module, x = case.build(), case.input()
    try:
        return counter(module, x, case)
    except ForwardOnly:
        return "forward only"
    except Exception as error:  # any exception is the finding
        print(f"{case.name}: {type(error).__name__}: {error}", file=sys.stderr)
        return "fails"


def is_right(case: Case, found: Found | str) -> bool:
    if isinstance(found, str):
        return False
    params = None in (found.params, case.params) or found.params == case.params
    return abs(found.macs - case.macs) <= case.tolerance and params and (found.warned or not case.partial)


def cell(case: Case, found: Found | str) -> str:
    """MACs by the judge's; wrong parameters too; a star where the counter warned; bold where it is wrong."""
    if isinstance(found, str):
        return found
    text = _share(found.macs, case.macs, case.tolerance) + "*" * found.warned
    if found.params is not None and case.params is not None and found.params != case.params:
        text += f", params {_share(found.params, case.params)}"
    if case.partial and not found.warned:
        text += ", silent"
    return text if is_right(case, found) else f"**{text}**"


def _share(found: int, judge: int, tolerance: int = 0) -> str:
    """Three decimals, and more where three would call a wrong number right."""
    short = f"{found / judge:.3f}"
    return f"{found / judge:.6f}" if short == "1.000" and abs(found - judge) > tolerance else short


def judged(case: Case) -> str:
    """The judge's column."""
    if case.tolerance:
        return f"{case.macs / 1e9:.3f} G | {case.params:,}"
    return f"{case.macs:,}" + (" and partial" if case.partial else "")


# The page


@dataclass
class Counted:
    """All answers of one counter."""

    name: str
    version: str
    found: dict[str, list[Found | str]] = field(default_factory=dict)


def worker(tool: str) -> None:
    """Every case by one counter: one line of JSON each."""
    _, load, meta = TOOLS[tool]
    with _quiet() as report:
        counter = load()
        for case in [*(network_case(name) for name in NETWORKS), *TRICKY]:
            found = answer(counter, case, meta)
            report(found if isinstance(found, str) else asdict(found))


def measure(tool: str, network: str, setting: str) -> None:
    """One count in this fresh process. Seconds to build the module and to count it; peak memory in MiB."""
    _, load, _ = TOOLS[tool]
    with _quiet() as report:
        counter = load()
        case = None if setting == "name" else network_case(network)
        loaded, started = _peak(), time.perf_counter()
        if case is None:
            from neocog.app.costing import cost

            built = time.perf_counter()
            macs = cost(network).macs
        else:
            with torch.device(setting):
                module, x = case.build(), case.input()
            built = time.perf_counter()
            macs = counter(module, x, case).macs
        ended = time.perf_counter()
        report({"build": built - started, "count": ended - built, "loaded": loaded, "peak": _peak(), "macs": macs})


@contextlib.contextmanager
def _quiet() -> Iterator[Callable[[Any], None]]:
    """What counters print goes to stderr; stdout belongs to what is reported."""
    with _torchvision(), os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)
        yield lambda facts: print(json.dumps(facts), file=out, flush=True)


@contextlib.contextmanager
def _torchvision() -> Iterator[None]:
    """Inside, torchvision can be imported beside a CPU-only torch too."""
    sys.path.append(str(HERE.parent / "tests"))
    from torchvision_operators import declare_missing

    keep = declare_missing()
    yield
    del keep


def _peak() -> float:
    """Peak resident memory of this process in MiB; getrusage also remembers the process that started it."""
    status = Path("/proc/self/status")
    if status.is_file():
        kib = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1]
        return int(kib) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def ask(*arguments: str) -> list[Any]:
    """The reports of a fresh process; what it said on its way is shown where it ended badly."""
    command = [sys.executable, str(HERE / "cost_counters.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        tell(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    elif arguments[0] == "--worker":
        (HERE / "results").mkdir(exist_ok=True)
        (HERE / "results" / f"cost_counters_{arguments[1].replace(', ', '_')}.log").write_text(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines()]


def tell(text: str) -> None:
    """Progress: stdout is the page."""
    print(text, file=sys.stderr, flush=True)


def counted() -> list[Counted]:
    everyone = []
    for tool, (distribution, _, _) in TOOLS.items():
        try:
            one = Counted(tool, version(distribution))
        except PackageNotFoundError:
            tell(f"left out: {tool} is not installed")
            continue
        tell(f"counting: {tool}")
        reports = [r if isinstance(r, str) else Found(**r) for r in ask("--worker", tool)]
        if tool == "neocog" and len(reports) < len(NETWORKS) + len(TRICKY):
            raise SystemExit("neocog did not finish: there is nothing to compare")
        # Whoever takes the process down has failed in that case and those behind it.
        reports += ["fails"] * (len(NETWORKS) + len(TRICKY) - len(reports))
        one.found = {"networks": reports[: len(NETWORKS)], "tricky": reports[len(NETWORKS) :]}
        everyone.append(one)
    return everyone


def table(kind: str, cases: list[Case], everyone: list[Counted]) -> list[str]:
    judge = "torchvision's MACs | its parameters" if kind == "networks" else "MACs by hand"
    names = " | ".join(one.name for one in everyone)
    lines = [f"| | {judge} | {names} |", "|---" * (len(everyone) + 2 + (kind == "networks")) + "|"]
    for number, case in enumerate(cases):
        cells = [cell(case, one.found[kind][number]) for one in everyone]
        lines.append(f"| {case.name} | {judged(case)} | {' | '.join(cells)} |")
    return [*lines, ""]


def score(networks: list[Case], everyone: list[Counted]) -> list[str]:
    """How often each is right, and how much its warnings tell."""
    lines = [
        "| | version | networks right | off by over 10 % | tricky right | wrong, no warning | right, but warned |",
        "|---" * 7 + "|",
    ]
    for one in everyone:
        first = list(zip(networks, one.found["networks"], strict=True))
        second = [pair for pair in zip(TRICKY, one.found["tricky"], strict=True) if pair[1] != NOT_ON_META]
        numbers = [(case, found) for case, found in first + second if isinstance(found, Found)]
        cells = [
            f"{sum(is_right(*pair) for pair in first)} of {len(first)}",
            sum(isinstance(found, Found) and abs(found.macs / case.macs - 1) > 0.1 for case, found in first),
            f"{sum(is_right(*pair) for pair in second)} of {len(second)}",
            sum(not found.warned and not is_right(case, found) for case, found in numbers),
            sum(found.warned and not case.partial and is_right(case, found) for case, found in numbers),
        ]
        lines.append(f"| {one.name} | {one.version} | " + " | ".join(str(c) for c in cells) + " |")
    return [*lines, ""]


def own_faults(networks: list[Case], ours: Counted) -> list[str]:
    """What neocog gets wrong, in words."""
    pairs = list(zip([*networks, *TRICKY], ours.found["networks"] + ours.found["tricky"], strict=True))
    wrong = [case.name for case, found in pairs if not is_right(case, found)]
    nervous = [
        case.name
        for case, found in pairs
        if isinstance(found, Found) and found.warned and not case.partial and is_right(case, found)
    ]
    lines = [f"neocog is wrong about: {', '.join(wrong)}.", ""] if wrong else []
    return lines + ([f"neocog is right but warns without need about: {', '.join(nervous)}.", ""] if nervous else [])


def contenders() -> dict[str, tuple[str, str]]:
    """Shown name -> (tool, where the network is built)."""
    found = {"neocog, its own network by name": ("neocog", "name")}
    for tool, (distribution, _, meta) in TOOLS.items():
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        if not meta:
            found |= {tool: (tool, "cpu"), f"{tool}, on meta": (tool, "meta")}
    return found


def measured(rounds: int) -> dict[str, Any]:
    """Name -> network -> one report a round; and what to know of the machine."""
    who, quiet = list(contenders().items()), []
    reports: dict[str, dict[str, list[Any]]] = {name: {network: [] for network in MEASURED} for name, _ in who}
    for number in range(rounds):
        shift = number % len(who)
        for network in MEASURED:
            for name, (tool, setting) in who[shift:] + who[:shift]:
                if number == 0 or reports[name][network]:  # who failed is not asked again
                    quiet.append(idle_share())
                    reports[name][network] += ask("--measure", tool, network, setting)
        tell(f"round {number + 1} of {rounds} done")
    return {"reports": reports, "rounds": rounds, "idle": median(quiet), "machine": describe()}


def resources(facts: dict[str, Any]) -> list[str]:
    lines = [f"| | {' | '.join(MEASURED)} | MiB after imports |", "|---" * (len(MEASURED) + 2) + "|"]
    judges = {network: network_case(network) for network in MEASURED}
    middle: dict[str, dict[str, dict[str, float]]] = {network: {} for network in MEASURED}
    right: dict[str, dict[str, bool]] = {network: {} for network in MEASURED}
    for name, networks in facts["reports"].items():
        cells, loaded = [], []
        for network, found in networks.items():
            if not found:
                cells.append("fails")
                continue
            one = middle[network][name] = {key: median(report[key] for report in found) for key in found[0]}
            right[network][name] = abs(one["macs"] - judges[network].macs) <= TOLERANCE
            text = f"{one['build']:.2f} + {one['count']:.2f} s, {one['peak']:,.0f} MiB"
            cells.append(text if right[network][name] else f"{text}, **wrong**")
            loaded.append(one["loaded"])
        lines.append(f"| {name} | {' | '.join(cells)} | {f'{median(loaded):,.0f}' if loaded else ''} |")
    rounds = f"Medians of {facts['rounds']} rounds; median idle share of the machine before a run {facts['idle']:.0%}."
    lines += ["", f"{rounds} {facts['machine']}", ""]
    for network, here in middle.items():
        correct = [name for name in here if right[network][name]]
        quick = min(correct, key=lambda name: here[name]["build"] + here[name]["count"])
        alone = min(correct, key=lambda name: here[name]["count"])
        light = min(correct, key=lambda name: here[name]["peak"])
        lines.append(f"- {network}, of those that are right: quickest {quick}; quickest once it is built {alone}; "
                     f"least memory {light}.")  # fmt: skip
    return lines


HEAD = """# Counters of parameters and multiply-accumulates

Written by `python bench/cost_counters.py`. A cell is a counter's multiply-accumulates (MACs; half its FLOPs where it
counts two for each) divided by the judge's: 1.000 is right, **bold differs**. A wrong number of parameters is named
beside it. A star (*) means that the counter said it left something out; for the cases called partial that belongs to
the right answer, because what such operators cost is not agreed. "fails" means that it raised, "forward only" that it
has no way to count a backward pass; neither is right.

torchvision's own numbers come from watching operators, as neocog and FlopCounterMode do, so their agreement is no
surprise; the sums by hand are the independent judge. torchvision publishes three decimals of billions, so a small
network at 0.998 can be right. The layers of the tricky cases have no biases, because whether to count them is taste.
"""
USAGE = """Everyone is used as its manual shows, in eval mode (train mode where the case says so), on one input with a
batch of one: neocog `cost(module, inputs=[x])`, and `MacCounter` for backward, train mode and real tensors; torchinfo
`summary(input_data=[x])`; fvcore `FlopCountAnalysis` and `parameter_count`; ptflops `get_model_complexity_info` with
each of its backends and `verbose=True`; thop `profile(report_missing=True)`; PyTorch's `FlopCounterMode`, which counts
no parameters, on ordinary tensors and on the meta device.
"""
NOTES = """## Why they differ

- torchinfo multiplies parameters with the places of a convolution's output, and those of other layers with the batch
  alone. Attention, functions and the tokens that a linear layer meets are not seen, so transformers and ConvNeXt come
  out at a few percent of their work; an embedding's table counts as work, and biases count. Networks of convolutions
  with a dense head come out right to a thousandth. Parameters that layers share count once for each. It never warns.
- fvcore adds norms and adaptive pools on purpose: one percent of ResNet-50, four of the mobile networks. It has no
  formula for fused attention, recurrent layers and `baddbmm`, and names them; but it names additions and activations
  too, so there is a warning for every network here.
- ptflops adds norms, activations, pools and biases with its `pytorch` backend, and does not see `F.conv2d`, `@` and
  `einsum`. Its `aten` backend counts biases, and has no formula for fused attention, `baddbmm` and the CPU's LSTM.
  Both name what they skip; the `aten` backend's warning also comes wherever nothing is missing.
- thop knows layers by their class, for parameters too, and adds norms, pools and the gates of recurrent layers. What
  a module computes itself is not seen, a transposed convolution is counted by its output, and parameters that layers
  share count once for each.
- FlopCounterMode's forward formulas are exact. It passes over operators that it does not know without a word, among
  them fused attention and the LSTM of the CPU; on the meta device neither appears, and it is right. Its gradient of
  a grouped convolution's weights is that of a convolution without groups.

Where neocog is not better: FlopCounterMode on the meta device is as right about networks and forward passes, comes
with PyTorch, and is quicker once the network is built, because neocog writes a table of every layer with its memory
and receptive field. torchinfo is right about plain convolutional networks to a thousandth, too. All that runs on the
meta device is as light as neocog is there, or lighter. neocog knows the operators in its lists and names the others.
Norms and activations are no MACs here; they have a column of their own in the cost table.
"""
RESOURCES = """Seconds to build the network plus seconds to count it, and the peak memory of the whole process, which is
a fresh one each time. The clock starts after the imports. "On meta" builds torchvision's network inside
`torch.device("meta")`, where weights have no memory; by name neocog builds its own and needs no torchvision. **Wrong**
is a count that is not torchvision's, as above.
"""


def page(everyone: list[Counted], facts: dict[str, Any]) -> str:
    networks = [network_case(name) for name in NETWORKS]
    lines = [HEAD, *score(networks, everyone), *own_faults(networks, everyone[0]), USAGE]
    lines += ["## Networks of torchvision", "", *table("networks", networks, everyone)]
    lines += ["## Tricky cases", "", *table("tricky", TRICKY, everyone), NOTES]
    lines += ["## Time and memory", "", RESOURCES, *resources(facts)]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--again", action="store_true", help="write the page from the last run's numbers")
    parser.add_argument("--worker", metavar="TOOL", help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs=3, metavar=("TOOL", "NETWORK", "SETTING"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.worker)
    elif options.measure:
        measure(*options.measure)
    else:
        kept = HERE / "results" / "cost_counters.json"
        if not options.again:
            kept.parent.mkdir(exist_ok=True)
            everyone, facts = counted(), measured(options.rounds)
            kept.write_text(json.dumps({"counted": [asdict(one) for one in everyone], "measured": facts}))
        with _torchvision():
            print(page(*_kept(kept)), end="")


def _kept(path: Path) -> tuple[list[Counted], dict[str, Any]]:
    if not path.is_file():
        raise SystemExit(f"{path} does not exist: run once without --again")
    facts = json.loads(path.read_text())
    everyone = [Counted(one["name"], one["version"]) for one in facts["counted"]]
    for one, stored in zip(everyone, facts["counted"], strict=True):
        for kind, found in stored["found"].items():
            one.found[kind] = [f if isinstance(f, str) else Found(**f) for f in found]
    return everyone, facts["measured"]


if __name__ == "__main__":
    main()
