"""Images per second while training: neocog beside its peers, in one sitting, on the same network and pictures.

    python bench/train.py [convnet] [resnet18] [conv_ae] [--rounds N] [--data ../shared/data]
    python bench/train.py --accuracy [--epochs N]

Each contender lives in its own process, is warmed up by one uncounted round and then trains in rounds, one
contender at a time, in an order that rotates. Ratios are formed within a round, so what disturbs a round
disturbs both; shown is their median. A DataLoader with worker processes begins a round with up to four batches
that it loaded while it waited, which flatters it by a few percent. Keras on TensorFlow runs some rounds several
times slower than others while other processes live, even idle ones; so neocog's median is also set against each
peer's best round.

`pip install -c constraints.txt -e ".[bench]"` brings Lightning and Keras; what is not installed is named and left
out.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from machine import describe, idle_share

HERE = Path(__file__).resolve().parent

# contender -> (script, arguments, environment)
CONTENDERS = {
    "neocog": ("ours.py", [], {}),
    "PyTorch tutorial loop": ("tutorial.py", [], {}),
    "PyTorch tutorial loop, 2 workers": ("tutorial.py", ["--workers", "2"], {}),
    "Lightning Trainer": ("lightning_trainer.py", [], {}),
    "Lightning Trainer, 2 workers": ("lightning_trainer.py", ["--workers", "2"], {}),
    "Keras on TensorFlow": ("keras_fit.py", [], {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}),
    "Keras on PyTorch": ("keras_fit.py", [], {"KERAS_BACKEND": "torch"}),
}

# benchmark -> (what, batch size, batches in a round, contenders)
BENCHMARKS = {
    "convnet": ("deck 003's convnet (34,826 parameters) on MNIST", 128, 60, list(CONTENDERS)),
    "resnet18": ("ResNet-18 at 224 x 224 on 1,000 JPEG pictures of 256 x 256", 16, 12, list(CONTENDERS)[:3]),
    "conv_ae": ("the convolutional autoencoder (398,449 parameters) on MNIST", 128, 60, list(CONTENDERS)[:3]),
}


@dataclass
class Contender:
    name: str
    process: subprocess.Popen[str]
    version: str = ""
    rates: list[float] = field(default_factory=list)

    def tell(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("round\n")
        self.process.stdin.flush()

    def hear(self) -> dict[str, object] | None:
        """The next report; None where the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


def start(name: str, options: list[str], log: Path) -> Contender | None:
    """The contender, loaded and waiting; None, with the reason shown, where it cannot run."""
    script, more, environment = CONTENDERS[name]
    command = [sys.executable, str(HERE / "peers" / script), *options, *more]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True,
            env=os.environ | environment,
        )  # fmt: skip
    contender = Contender(name, process)
    hello = contender.hear()
    if hello is None:
        lines = log.read_text(errors="replace").strip().splitlines()
        print(f"left out: {name} ({lines[-1] if lines else 'it said nothing'})", flush=True)
        return None
    contender.version = str(hello["ready"])
    return contender


def race(benchmark: str, data: Path, rounds: int, scratch: Path) -> str:
    """Runs one benchmark and returns its table in Markdown."""
    what, batch_size, batches, names = BENCHMARKS[benchmark]
    options = ["--network", benchmark, "--data", str(data), "--batch-size", str(batch_size), "--batches", str(batches)]
    contenders = []
    for number, name in enumerate(names):
        contender = start(name, options, scratch / f"{benchmark}-{number}.log")
        if contender is None and number == 0:
            raise SystemExit(f"{name} did not start: there is nothing to compare")
        if contender is not None:
            contender.tell()  # the warm-up
            if contender.hear() is None:
                raise SystemExit(
                    f"{name} ended in its warm-up:\n" + (scratch / f"{benchmark}-{number}.log").read_text()
                )
            contenders.append(contender)
    quiet = []
    for number in range(rounds):
        shift = number % len(contenders)
        for contender in contenders[shift:] + contenders[:shift]:
            quiet.append(idle_share())
            contender.tell()
            heard = contender.hear()
            if heard is None:
                raise SystemExit(f"{contender.name} ended in round {number + 1}")
            contender.rates.append(float(str(heard["rate"])))
        print(f"round {number + 1}: " + ", ".join(f"{c.name} {c.rates[-1]:,.0f}" for c in contenders), flush=True)
    for contender in contenders:
        contender.process.kill()
        contender.process.wait()
    return table(what, batch_size, contenders, rounds, median(quiet))


def table(what: str, batch_size: int, contenders: list[Contender], rounds: int, idle: float) -> str:
    ours = contenders[0]
    rows = [
        f"### {what}, batch {batch_size}",
        "",
        "| | images/s, median (range) | neocog is faster by | its median beside their best round |",
        "|---|---|---|---|",
    ]
    for c in contenders:
        ratio = median(a / b for a, b in zip(ours.rates, c.rates, strict=True))
        speed = f"{median(c.rates):,.0f} ({min(c.rates):,.0f} to {max(c.rates):,.0f})"
        faster = ["", ""] if c is ours else [f"{ratio:.2f}x", f"{median(ours.rates) / max(c.rates):.2f}x"]
        rows.append(f"| {c.name} ({c.version}) | {speed} | {' | '.join(faster)} |")
    rows += ["", f"{rounds} rounds; median idle share of the machine before a round {idle:.0%}. {describe()}"]
    return "\n".join(rows) + "\n"


def accuracy(data: Path, epochs: int, scratch: Path) -> str:
    """Test accuracy of three seeds each, neocog and the tutorial loop with the same recipe."""
    rows = [
        f"### deck 003's convnet on MNIST, test accuracy after {epochs} epochs",
        "",
        "| | seed 0 | seed 1 | seed 2 | mean |",
        "|---|---|---|---|---|",
    ]
    for name in ("neocog", "PyTorch tutorial loop"):
        found = []
        for seed in range(3):
            options = ["--network", "convnet", "--data", str(data), "--batch-size", "128"]
            log = scratch / "accuracy.log"
            contender = start(name, [*options, "--epochs", str(epochs), "--seed", str(seed)], log)
            answer = contender.hear() if contender else None
            if answer is None:
                raise SystemExit(f"{name} did not finish:\n{log.read_text()}")
            found.append(float(str(answer["accuracy"])))
            print(f"{name}, seed {seed}: {found[-1]:.4f}", flush=True)
        rows.append(f"| {name} | " + " | ".join(f"{v:.4f}" for v in [*found, sum(found) / 3]) + " |")
    return "\n".join(rows) + "\n"


def photos(archive: Path, folder: Path, classes: int = 10) -> Path:
    """The pictures of the sample in `classes` folders; these labels mean nothing."""
    with zipfile.ZipFile(archive) as packed:
        names = sorted(name for name in packed.namelist() if name.endswith(".jpg"))
        for i, name in enumerate(names):
            place = folder / f"class{i * classes // len(names)}" / Path(name).name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(packed.read(name))
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmarks", nargs="*", metavar="BENCHMARK", help=f"of {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    mnist, sample = options.data / "mnist/MNIST/raw", options.data / "imagenet_sample/imagenet_sample_256.zip"
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for benchmark in ["accuracy"] if options.accuracy else options.benchmarks or list(BENCHMARKS):
            needed = sample if benchmark == "resnet18" else mnist
            if not needed.exists():
                print(f"left out: {benchmark}: {needed} does not exist")
                continue
            if benchmark == "accuracy":
                text = accuracy(mnist, options.epochs, scratch)
            else:
                data = photos(sample, scratch / "photos") if benchmark == "resnet18" else mnist
                text = race(benchmark, data, options.rounds, scratch)
            (results / f"train_{benchmark}.md").write_text(text)
            print("\n" + text)


if __name__ == "__main__":
    main()
