"""Plants one small fault at a time in the networks and asks which tests notice: a check of the checks.

    python tests/sabotage.py [NUMBER...]

Each fault is planted in a copy of the package, and the tests of networks run against that copy, only those of the
faulty network. Prints what caught each fault; the exit code is 1 if one went unnoticed. Takes some minutes.
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
TESTS = sorted(path for path in (ROOT / "tests").glob("test_*.py") if re.match(r"test_(models|zoo|layers)", path.name))


@dataclass(frozen=True)
class Fault:
    what: str
    file: str  # under src/neocog
    old: str  # stands there exactly once
    new: str
    network: str  # pytest's -k: whose tests run


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
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-k",
            fault.network,
            *map(str, TESTS),
        ]
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": folder})
    if ran.returncode not in (0, 1):
        return Counter({"the tests cannot even be collected": 1})
    return Counter(re.findall(r"^(?:FAILED|ERROR) \S+?::(\w+)", ran.stdout, re.MULTILINE))


def main() -> int:
    chosen = [int(word) for word in sys.argv[1:]] or range(1, len(FAULTS) + 1)
    missed = 0
    print("| | fault | network | caught by (failed cases) |\n|---|---|---|---|")
    for number in chosen:
        fault = FAULTS[number - 1]
        found = caught_by(fault)
        missed += not found
        shown = ", ".join(f"{name} ({n})" for name, n in found.most_common()) or "**nothing**"
        print(f"| {number} | {fault.what} | {fault.network} | {shown} |", flush=True)
    print(f"\n{len(chosen) - missed} of {len(chosen)} faults were caught")
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())
