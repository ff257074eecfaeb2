"""Model files that are not what they seem, each with the exit code's error it must get, and a process to open them in.

`python tests/model_files.py FOLDER` opens everything that `make_attacks(FOLDER)` made there and prints, as JSON, what
each got and by how much the process's resident memory grew meanwhile.
"""

import io
import json
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import neocog
from neocog.app.zoo import open_network
from neocog.core.errors import NeocogError
from neocog.core.files import sha256_of
from neocog.core.spec import Preprocessing
from neocog.export.bundle import ModelCard, write_bundle

NAME = "mobilenet_v2"
KNOBS = {"width": 0.25}
CLASSES = ["ant", "bee", "caf\udce9", "[/red]"]


def make_bundle(folder: Path, name: str = NAME, size: int = 32, knobs: dict[str, Any] = KNOBS) -> Path:
    """The model's folder of a finished run, with four classes and random weights."""
    torch.manual_seed(0)
    network = neocog.create_model(name, num_classes=len(CLASSES), in_channels=3, **knobs)
    card = ModelCard(
        model=name, knobs=knobs, classes=CLASSES, in_channels=3, background="white",
        preprocessing=Preprocessing(size, size), provenance={"seed": 0, "licence": "MIT"},
        written_by=neocog.__version__,
    )  # fmt: skip
    write_bundle(folder, network.state_dict(), card)
    return folder


def change_card(folder: Path, **fields: Any) -> None:
    """Other fields in model.json, and the hash of the weights as they are now."""
    path = folder / "model.json"
    values = json.loads(path.read_text()) | {"sha256": sha256_of(folder / "model.safetensors")} | fields
    path.write_text(json.dumps(values))


def with_header(header: Any, data: bytes = b"") -> bytes:
    """A .safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(shape: list[Any], start: Any = 0, end: Any = 0, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


class Canary:
    """Unpickling it would create the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


def rewritten(source: Path, target: Path, compress: int, **replace: bytes) -> None:
    """A copy of a torch archive, perhaps compressed, with other contents for some of its entries."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compress) as new:
        for name in old.namelist():
            new.writestr(name, replace.get(Path(name).name.replace(".", "_"), old.read(name)))


def make_pickles(folder: Path) -> None:
    canary = Canary(folder / "canary")
    torch.save({"weight": torch.zeros(2), "x": canary}, folder / "malicious.pth")
    torch.save(canary, folder / "malicious_legacy.pth", _use_new_zipfile_serialization=False)
    (folder / "bare.pth").write_bytes(pickle.dumps(canary))
    (folder / "bare.safetensors").write_bytes(pickle.dumps(canary))
    torch.save({"weight": bytearray(10)}, folder / "bytearray.pth")
    # A legacy file, and an archive, that name what their opcodes build in other ways.
    legacy = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, legacy, _use_new_zipfile_serialization=False)
    (folder / "global.pth").write_bytes(legacy.getvalue()[:15] + b"\x80\x02cposix\nsystem\n.")
    (folder / "stack.pth").write_bytes(legacy.getvalue()[:15] + b"\x80\x04\x8c\x05posix\x8c\x06system\x93.")


def _tensors(folder: Path) -> None:
    torch.save({"w": torch.ones(1).expand(1_000_000, 1_000_000)}, folder / "expanded.pth")
    torch.save(
        {"w": torch.ones(1).expand(10**6, 10**6)}, folder / "expanded_old.pth", _use_new_zipfile_serialization=False
    )
    torch.save({"w": torch.eye(3).to_sparse()}, folder / "sparse.pth")
    torch.save({"w": torch.zeros(3, device="meta")}, folder / "meta.pth")
    torch.save({"w": torch.ones(3)}, folder / "dense.pth")
    with zipfile.ZipFile(folder / "dense.pth") as dense:
        described = dense.read("dense/data.pkl").replace(b"_rebuild_tensor_v2", b"_rebuild_qtensor")
    rewritten(folder / "dense.pth", folder / "quantised.pth", zipfile.ZIP_STORED, data_pkl=described)
    (folder / "dense.pth").unlink()
    torch.save({1: torch.zeros(2)}, folder / "number_keys.pth")
    # Legacy: a storage of 4 bytes that claims 40 GB.
    good = io.BytesIO()
    torch.save({"w": torch.zeros(1)}, good, _use_new_zipfile_serialization=False)
    claimed = good.getvalue().replace(
        b"X\x03\x00\x00\x00cpuq\x06K\x01", b"X\x03\x00\x00\x00cpuq\x06\x8a\x05\x00\xe4\x0b\x54\x02"
    )
    assert claimed != good.getvalue()
    (folder / "claimed.pth").write_bytes(claimed)


def _zips(folder: Path) -> None:
    torch.save({"w": torch.zeros(4)}, folder / "plain.pth")
    rewritten(folder / "plain.pth", folder / "deflated.pth", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(folder / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        with zipfile.ZipFile(folder / "plain.pth") as plain:
            for name in plain.namelist():
                bomb.writestr(name, plain.read(name))
        bomb.writestr("plain/data/1", bytes(200_000_000))
    with zipfile.ZipFile(folder / "other.pth", "w") as other:
        other.writestr("readme.txt", "hello")
    (folder / "plain.pth").unlink()


def _safetensors(folder: Path) -> None:
    save_file({"w": torch.zeros(2, 2)}, folder / "good.safetensors")
    good = (folder / "good.safetensors").read_bytes()
    (folder / "good.safetensors").unlink()
    cases: dict[str, bytes] = {
        "pickle_behind": good + pickle.dumps(Canary(folder / "canary")),
        "zip_behind": good + b"PK\x03\x04" + bytes(100),
        "no_tensors": with_header({}),
        "huge_header": struct.pack("<Q", 2**62) + b"{}",
        "long_header": with_header(b"{" + b" " * 3_000_000 + b"}"),
        "shape_bomb": with_header({"w": entry([10**6, 10**6], 0, 4)}, bytes(4)),
        "claims_more": with_header({"w": entry([10**6, 10**6], 0, 4 * 10**12)}, bytes(4)),
        "overflow": with_header({"w": entry([2**62, 4], 0, 0)}),
        "negative": with_header({"w": entry([-1, -1], 0, 4)}, bytes(4)),
        "true_for_one": with_header({"w": entry([True], 0, 4)}, bytes(4)),
        "fraction": with_header({"w": entry([1.0], 0, 4)}, bytes(4)),
        "overlap": with_header({"a": entry([1], 0, 4), "b": entry([1], 0, 4)}, bytes(4)),
        "gap": with_header({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
        "backwards": with_header({"w": entry([1], 4, 0)}, bytes(4)),
        "unknown_type": with_header({"w": entry([1], 0, 4, "C64")}, bytes(4)),
        "type_is_number": with_header({"w": entry([1], 0, 4, 7)}, bytes(4)),
        "more_fields": with_header({"w": entry([1], 0, 4) | {"code": "x"}}, bytes(4)),
        "rank": with_header({"w": entry([1] * 100, 0, 4)}, bytes(4)),
        "twice": with_header(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                             b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', bytes(4)),
        "list_header": with_header([]),
        "deep_header": with_header(b"[" * 500_000 + b"]" * 500_000),
        "no_json": with_header(b"{hello"),
        "bad_utf8": with_header(b'{"\xff": 1}'),
        "many_digits": with_header(b'{"w":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,4]}}'),
    }  # fmt: skip
    for name, content in cases.items():
        (folder / f"{name}.safetensors").write_bytes(content)


def _plain(folder: Path) -> None:
    for suffix in ("pth", "th", "safetensors"):
        (folder / f"empty.{suffix}").write_bytes(b"")
        (folder / f"text.{suffix}").write_text("these are no weights\n" * 10)
        (folder / f"zeros.{suffix}").write_bytes(bytes(1000))


def _bundles(folder: Path) -> None:
    for name, model, small, knobs in (
        ("wide", "mobilenet_v2", {"width": 0.25}, {"width": 1e9}),
        ("tall", "perceptron", {"image_size": 16}, {"image_size": 10_000}),
        ("taller", "perceptron", {"image_size": 16}, {"image_size": 10**9}),
        ("tallest", "mnist_dense", {"image_size": 16}, {"image_size": 10**300}),
        ("deep", "fractalnet20", {"columns": 1}, {"columns": 10**9}),
    ):
        change_card(make_bundle(folder / f"bundle_{name}", model, 16, small), knobs=knobs)
    for name, fields in (
        ("classes", {"classes": [str(i) for i in range(300_000)]}),
        ("unknown", {"model": "resnet18_v9"}),
        ("option", {"knobs": {"depth": 3}}),
        ("size", {"preprocessing": asdict(Preprocessing(10**6, 10**6))}),
        ("crop", {"preprocessing": asdict(Preprocessing(224, 32))}),
    ):
        change_card(make_bundle(folder / f"bundle_{name}"), **fields)
    tail = make_bundle(folder / "bundle_tail")
    with (tail / "model.safetensors").open("ab") as file:
        pickle.dump(Canary(folder / "canary"), file)
    change_card(tail)  # whoever can change the weights can change their hash
    shaped = make_bundle(folder / "bundle_shaped")
    save_file({"w": torch.zeros(2)}, shaped / "model.safetensors")
    change_card(shaped)


def make_attacks(folder: Path) -> None:
    for make in (make_pickles, _tensors, _zips, _safetensors, _plain, _bundles):
        make(folder)


def open_path(path: Path) -> None:
    if path.is_dir():
        open_network(path)
    else:
        neocog.create_model(NAME, weights=str(path), num_classes=4, **KNOBS)


def growth(work: Callable[[], None]) -> tuple[str, int]:
    """(what `work` raised, megabytes by which resident memory grew at its highest). Linux."""
    Path("/proc/self/clear_refs").write_text("5")  # the highest mark starts anew
    before = _high_mark()
    try:
        work()
        outcome = "opened"
    except NeocogError as error:
        outcome = f"{type(error).__name__}: {error}"
    except BaseException as error:
        outcome = f"not ours, {type(error).__name__}: {error}"
    return outcome, (_high_mark() - before) // 1024


def _high_mark() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


def main(folder: Path) -> None:
    open_network(make_bundle(folder / "warm_up"))  # what torch allocates once
    results = {}
    for path in sorted(folder.iterdir()):
        if path.name not in ("warm_up", "canary"):
            results[path.name] = growth(lambda path=path: open_path(path))
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
