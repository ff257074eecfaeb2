"""Plants one small fault at a time and asks which tests notice: a check of the checks, of networks, costs and runs.

    python tests/sabotage.py [NUMBER...]

Each fault is planted in a copy of the package, and tests run against that copy: those of the faulty network, or the
quick ones of costs. Prints what caught each fault; the exit code is 1 if one went unnoticed. Takes some minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "neocog"
ZOO = "models|zoo|layers"
RUNS = "checkpoint|train|budget|exhausted|kill|together"
TRANSFER = "regimes|views|heads|transfer"
QUICK = "not cli and not judged and not real_step and not every_family"


@dataclass(frozen=True)
class Fault:
    what: str
    file: str  # under src/neocog
    old: str  # stands there exactly once
    new: str
    network: str  # pytest's -k: whose tests run
    tests: str = ZOO  # how the names of the files begin


FAULTS = [
    Fault(
        "the skip of residual blocks lost",
        "layers/residual.py",
        "self.act(self.body(x) + self.shortcut(x))",
        "self.act(self.body(x))",
        "resnet18",
    ),
    Fault(
        "ResNet-34's blocks swapped (3, 4, 6, 3 to 3, 6, 4, 3)",
        "models/resnet.py",
        '34:  ("basic",      (3,      4,      6,      3))',
        '34:  ("basic",      (3,      6,      4,      3))',
        "resnet34",
    ),
    Fault(
        "DenseNet: what is new in front of what was there",
        "models/densenet.py",
        "torch.cat([x, self.body(x)], dim=1)",
        "torch.cat([self.body(x), x], dim=1)",
        "densenet121",
    ),
    Fault(
        "channel shuffle left out",
        "layers/shuffle.py",
        ".transpose(1, 2).reshape(b, c, h, w)",
        ".reshape(b, c, h, w)",
        "shufflenet",
    ),
    Fault(
        "squeeze-and-excitation adds instead of multiplying",
        "layers/squeeze_excite.py",
        "return x * factors",
        "return x + factors",
        "mobilenet_v3_small or squeeze",
    ),
    Fault(
        "MobileNetV2: row 5 halves, row 6 does not",
        "models/mobilenet_v2.py",
        "(6,  96, 3, 1),\n    (6, 160, 3, 2),",
        "(6,  96, 3, 2),\n    (6, 160, 3, 1),",
        "mobilenet_v2",
    ),
    Fault(
        "GoogLeNet: rows 4b and 4c swapped",
        "models/googlenet.py",
        '"4b": (160,  112, 224,   24,  64,   64),\n    "4c": (128,  128, 256,   24,  64,   64),',
        '"4b": (128,  128, 256,   24,  64,   64),\n    "4c": (160,  112, 224,   24,  64,   64),',
        "googlenet",
    ),
    Fault("GoogLeNet: pools round down", "models/googlenet.py", "ceil_mode=True", "ceil_mode=False", "googlenet"),
    Fault(
        "GoogLeNet: 3x3 for the paper's 5x5", "models/googlenet.py", "wide = 5 if paper else 3", "wide = 3", "googlenet"
    ),
    Fault(
        "auxiliary heads answer in eval mode too",
        "core/contracts.py",
        "if not (self.training and self.auxiliary):",
        "if not self.auxiliary:",
        "googlenet",
    ),
    Fault(
        "EfficientNet: ReLU for Swish in the stem",
        "models/efficientnet.py",
        "self.stem = ConvNormAct(in_channels, c, 3, stride=2, norm=norm, act=nn.SiLU, same=same)",
        "self.stem = ConvNormAct(in_channels, c, 3, stride=2, norm=norm, act=nn.ReLU, same=same)",
        "efficientnet_b0",
    ),
    Fault(
        "dropout left on in eval mode",
        "layers/dropout.py",
        "if not self.training or self.p == 0:",
        "if self.p == 0:",
        "mobilenet_v2",
    ),
    Fault(
        "residual attention: mask * trunk without the 1",
        "models/residual_attention.py",
        "(1 + self.mask(x)) * self.trunk(x)",
        "self.mask(x) * self.trunk(x)",
        "residual_attention",
    ),
    Fault(
        "FractalNet joins by sum",
        "models/fractalnet.py",
        "torch.stack(outputs).mean(dim=0)",
        "torch.stack(outputs).sum(dim=0)",
        "fractalnet",
    ),
    Fault(
        "SqueezeNet: 3x3 in front of 1x1 when they are stacked",
        "models/squeezenet.py",
        "[self.expand1x1(x), self.expand3x3(x)]",
        "[self.expand3x3(x), self.expand1x1(x)]",
        "squeezenet1_1",
    ),
    Fault("VGG: a ReLU lost", "models/vgg.py", "act6=nn.ReLU(inplace=True)", "act6=nn.Identity()", "vgg11"),
    Fault(
        "AlexNet: stride 3 in the first layer",
        "models/alexnet.py",
        "( 64,     11,     4,     2,  False,",
        "( 64,     11,     3,     2,  False,",
        "alexnet",
    ),
    Fault(
        "attention without its scale",
        "layers/attention.py",
        "attention(q, k, v)",
        "attention(q, k, v, scale=1.0)",
        "vit_b_32 or attention",
    ),
    Fault(
        "capsules routed over the wrong axis",
        "models/capsnet.py",
        "logits.softmax(dim=2)",
        "logits.softmax(dim=1)",
        "capsnet",
    ),
    Fault(
        "ConvNeXt's blocks without their scale",
        "models/convnext.py",
        "y = self.scale * self.project(",
        "y = self.project(",
        "convnext",
    ),
    Fault(
        "Inception v3: 1x7 and 7x1 change places",
        "models/inception_v3.py",
        'f"1x1:{n} 1x7:{n} 7x1:192"',
        'f"1x1:{n} 7x1:{n} 1x7:192"',
        "inception_v3",
    ),
    Fault(
        "NASNet: a row of the normal cell reads the other input",
        "models/nasnet.py",
        '("h", "avg",  "p", "none")',
        '("p", "avg",  "p", "none")',
        "nasnet",
    ),
    Fault(
        "costs: a transposed convolution counted at its output",
        "costs/formulas.py",
        "grid = x if transposed else out",
        "grid = out",
        QUICK,
        "cost",
    ),
    Fault(
        "costs: the gradient of the input not counted",
        "costs/formulas.py",
        "(int(wanted[0]) + int(wanted[1]))",
        "int(wanted[1])",
        QUICK,
        "cost",
    ),
    Fault(
        "costs: reused layers bring their parameters again",
        "costs/trace.py",
        "self.seen.update(new)",
        "pass",
        QUICK,
        "cost",
    ),
    Fault(
        "costs: views are written memory",
        "costs/trace.py",
        "if t.untyped_storage()._cdata not in held)",
        "if True)",
        QUICK,
        "cost",
    ),
    Fault(
        "costs: an operator without a formula is free",
        "costs/trace.py",
        'formulas.name_of(func) if macs is None else ""',
        '""',
        QUICK,
        "cost",
    ),
    Fault(
        "fields: dilation forgotten",
        "costs/rules.py",
        "(kernel - 1) * dilation - padding, 1)",
        "(kernel - 1) - padding, 1)",
        QUICK,
        "cost",
    ),
    Fault(
        "fields: transposed convolutions rounded the other way",
        "costs/rules.py",
        "(1, padding - reach + stride - 1, stride)",
        "(1, padding - reach, stride)",
        QUICK,
        "cost",
    ),
    Fault(
        "fields: the largest path taken for the smallest",
        "costs/paths.py",
        "smallest = min((one",
        "smallest = max((one",
        QUICK,
        "cost",
    ),
    Fault(
        "fields: branches are not united, the first wins",
        "costs/paths.py",
        "return one.with_(other)",
        "return one",
        QUICK,
        "cost",
    ),
    Fault(
        "fields: misaligned branches are not named",
        "costs/paths.py",
        "if apart > (0 if",
        "if apart > (10**9 if",
        QUICK,
        "cost",
    ),
    Fault(
        "fields: height and width swapped in reshapes",
        "costs/field.py",
        "n, step = size, step * (n // size)",
        "n, step = size, step",
        QUICK,
        "cost",
    ),
    Fault(
        "memory: what autograd saves is let go",
        "costs/memory.py",
        "        return tensor\n\n\nclass _Live",
        "        return tensor.new_empty(0)\n\n\nclass _Live",
        QUICK,
        "cost",
    ),
    Fault(
        "memory: the optimizer's state is not there yet at the peak",
        "costs/memory.py",
        "                live.forget_peak()\n                step.run(x, accumulate)\n",
        "                pass\n",
        QUICK,
        "cost",
    ),
    Fault(
        "memory: the largest batch one too large",
        "costs/memory.py",
        "            return fits\n        if too_many and",
        "            return too_many\n        if too_many and",
        QUICK,
        "cost",
    ),
    Fault(
        "shapes: quick pools round down",
        "costs/shapes.py",
        "(-(-room // s) if ceil_mode else room // s) + 1",
        "room // s + 1",
        QUICK,
        "cost",
    ),
    Fault(
        "arithmetic: output padding forgotten",
        "costs/arithmetic.py",
        "+ 1 + output_padding",
        "+ 1",
        QUICK,
        "cost",
    ),
    Fault(
        "the optimizer's moments are forgotten on resuming",
        "training/state.py",
        'optimizer.load_state_dict({"state": kept,',
        'optimizer.load_state_dict({"state": {},',
        "resumes",
        RUNS,
    ),
    Fault(
        "the average's steps are forgotten on resuming",
        "training/state.py",
        'average.steps = found.facts["average_steps"]',
        "average.steps = 0",
        "resumes",
        RUNS,
    ),
    Fault(
        "a resumed run begins its epoch again",
        "training/loop.py",
        "self.loader.epoch(progress.epoch, progress.batch) if",
        "self.loader.epoch(progress.epoch, 0) if",
        "resumes",
        RUNS,
    ),
    Fault(
        "a run that was stopped at its very last step does not end its epoch",
        "training/loop.py",
        "self.progress.planned > 0 == self.progress.batch",
        "self.progress.planned > 0",
        "resumes",
        RUNS,
    ),
    Fault(
        "weights and statistics are not looked at before they are kept",
        "training/loop.py",
        "if value.is_floating_point() and not bool(",
        "if False and not bool(",
        "test",
        RUNS,
    ),
    Fault("only one checkpoint is kept", "training/checkpoint.py", "KEEP = 2", "KEEP = 1", "test", RUNS),
    Fault(
        "a checkpoint's hash is not compared",
        "training/checkpoint.py",
        "if sha256_of(path)[:DIGITS] != ",
        "if False and sha256_of(path)[:DIGITS] != ",
        "test",
        RUNS,
    ),
    Fault(
        "two processes may hold one run",
        "app/folder.py",
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        "two_processes",
        RUNS,
    ),
    Fault(
        "the time of validations is left out of the plan",
        "training/budget.py",
        "share = self.validation / self.batches_per_epoch",
        "share = 0.0",
        "test",
        RUNS,
    ),
    Fault(
        "every process's mean loss counts the same, whatever its share of the batch",
        "training/loop.py",
        "step.loss * words.share",
        "step.loss",
        "learns",
        RUNS,
    ),
    Fault(
        "the processes take the same rows of a batch",
        "data/plan.py",
        "return [places[self.rank :: self.world_size] for places in plan]",
        "return [places[:: self.world_size] for places in plan]",
        "learns or batches_are",
        RUNS,
    ),
    Fault(
        "batch norm of a frozen stage goes on learning",
        "transfer/regimes.py",
        "network.requires_grad_(False).eval()",
        "network.requires_grad_(False)",
        "frozen",
        TRANSFER,
    ),
    Fault(
        "all stages learn at one rate",
        "transfer/regimes.py",
        "self.finetune_lr * self.layer_decay**depth * risen",
        "self.finetune_lr * risen",
        "rates",
        TRANSFER,
    ),
    Fault(
        "a cached view is believed whatever it holds",
        "transfer/views.py",
        'if path.stem.rpartition("-")[2] == sha256_of(path)[:DIGITS]:',
        "if path.is_file():",
        "flipped or stopped",
        TRANSFER,
    ),
    Fault(
        "another seed finds the same augmented views",
        "app/embedding.py",
        "[asdict(augment), self.config.seed]",
        "[asdict(augment)]",
        "cache",
        TRANSFER,
    ),
    Fault(
        "every epoch sees the first view",
        "app/embedding.py",
        "train[epoch % max(number, 1)]",
        "train[0]",
        "cached_views",
        TRANSFER,
    ),
    Fault(
        "a picture is its own neighbour",
        "transfer/closed.py",
        "cosines[pictures[some][:, None] == pictures] = -2.0",
        "cosines[pictures[some][:, None] == pictures] += 0.0",
        "neighbours",
        TRANSFER,
    ),
    Fault(
        "the standardisation of the SVM's features is lost",
        "transfer/closed.py",
        "head.weight.copy_(torch.from_numpy(scale * weight / std))",
        "head.weight.copy_(torch.from_numpy(scale * weight))",
        "svm",
        TRANSFER,
    ),
    Fault(
        "a run's head is forgotten",
        "app/session.py",
        "head=self.loaded.head",
        "head=None",
        "every_head_learns",
        TRANSFER,
    ),
]


def plant(fault: Fault, package: Path) -> None:
    """Changes a copy of the package; ValueError where the fault's place is not found exactly once."""
    file = package / fault.file
    text = file.read_text("utf-8")
    if text.count(fault.old) != 1:
        raise ValueError(f"{fault.what}: {fault.old!r} stands {text.count(fault.old)} times in {fault.file}")
    file.write_text(text.replace(fault.old, fault.new), "utf-8")


def caught_by(fault: Fault) -> Counter[str]:
    """Test function -> how many of its cases failed with the fault planted."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "neocog"
        shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
        plant(fault, package)
        files = re.compile(f"test_({fault.tests})")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            fault.network,
            *(str(path) for path in sorted((ROOT / "tests").glob("test_*.py")) if files.match(path.name)),
        ]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": folder})
    if ran.returncode not in (0, 1):
        return Counter({"the tests cannot even be collected": 1})
    return Counter(re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", ran.stdout, re.MULTILINE))


def main() -> int:
    chosen = [int(word) for word in sys.argv[1:]] or range(1, len(FAULTS) + 1)
    missed = 0
    print("| | fault | tests of | caught by (failed cases) |\n|---|---|---|---|")
    for number in chosen:
        fault = FAULTS[number - 1]
        found = caught_by(fault)
        missed += not found
        shown = ", ".join(f"{name} ({n})" for name, n in found.most_common()) or "**nothing**"
        print(
            f"| {number} | {fault.what} | {fault.network if fault.tests == ZOO else fault.tests} | {shown} |",
            flush=True,
        )
    print(f"\n{len(chosen) - missed} of {len(chosen)} faults were caught")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
