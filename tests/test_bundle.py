"""Model files that were cut, altered or made to do harm are refused with one line, before anything is allocated.

That model.json may hold anything at all is in test_fuzz.py.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import neocog
from command import Command, one_line_error
from model_files import CLASSES, KNOBS, NAME, change_card, make_attacks, make_bundle, make_pickles
from neocog.app.zoo import load_model, open_network, preprocessing_of
from neocog.core.errors import ModelFileError, UsageError
from neocog.core.registry import lookup, names
from neocog.core.safetensors_header import read_header
from neocog.core.spec import Preprocessing
from neocog.export.bundle import ModelCard, read_card, write_bundle
from neocog.export.weights_file import read_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "run" / "model")


def test_what_is_written_is_what_is_read(folder: Path) -> None:
    card, network = open_network(folder)
    assert card.classes == CLASSES  # one of them no UTF-8
    assert card.preprocessing == Preprocessing(32, 32)
    torch.manual_seed(0)
    before = neocog.create_model(NAME, num_classes=4, **KNOBS).state_dict()
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    header = read_header(folder / "model.safetensors")
    assert {name: tensor.shape for name, tensor in header.items()} == {k: tuple(v.shape) for k, v in before.items()}


def test_a_card_that_could_not_be_read_is_not_written(folder: Path) -> None:
    fields = dict(read_card(folder))
    for wrong in (
        {"classes": ["a", "a"]}, {"classes": []}, {"in_channels": 65}, {"preprocessing": Preprocessing(64, 32)},
        {"preprocessing": Preprocessing(std=(0.0, 1.0, 1.0))}, {"background": "pink"}, {"sha256": "0"},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(wrong))):
            ModelCard(**fields | wrong)


@pytest.mark.row(50, "model: refused, exit 4, because its sha256 differs")
def test_weights_cut_or_flipped_anywhere(folder: Path) -> None:
    weights = folder / "model.safetensors"
    good = weights.read_bytes()
    header = int.from_bytes(good[:8], "little")
    for place in (0, 7, 8, header, header + 8, len(good) // 2, len(good) - 1):
        flipped = good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :]
        for bad in (good[:place], flipped, flipped + b"x"):
            weights.write_bytes(bad)
            with pytest.raises(ModelFileError, match="sha256 differs"):
                open_network(folder)
    weights.unlink()
    with pytest.raises(ModelFileError, match="does not exist"):
        open_network(folder)
    weights.write_bytes(good)
    open_network(folder)


@pytest.mark.row(50, "`model.json`: refused, exit 4, with the field that is wrong")
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"classes": None}, "classes"),
        ({"classes": []}, "classes"),
        ({"classes": ["a", "b", "a", "c"]}, "named twice"),
        ({"classes": ["a", 1]}, "classes.1"),
        ({"model": 3}, "model = 3"),
        ({"model": "resnet19"}, "no network called 'resnet19'"),
        ({"knobs": []}, "knobs"),
        ({"knobs": {"width": "wide"}}, "width = 'wide'"),
        ({"knobs": {"height": 1}}, "no option 'height'"),
        ({"in_channels": -1}, "in_channels = -1"),
        ({"in_channels": True}, "in_channels = True"),
        ({"preprocessing": None}, "preprocessing"),
        ({"preprocessing": {"size": 8}}, "preprocessing"),
        ({"background": "#12"}, "background"),
        ({"format": 0}, "no description"),
        ({"format": True}, "no description"),
        ({"surprise": 1}, "unknown key 'surprise'"),
        ({"sha256": 1}, "sha256"),
    ],
)
def test_fields_of_the_wrong_kind(folder: Path, fields: dict[str, object], reason: str) -> None:
    change_card(folder, **fields)
    with pytest.raises(ModelFileError, match=reason) as caught:
        open_network(folder)
    assert str(folder) in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("number", ["NaN", "-1", "0.5", "1e999", "true", "null", '"8"', "9" * 400])
@pytest.mark.parametrize("field", ["size", "resize", "std"])
def test_numbers_that_are_none(folder: Path, field: str, number: str) -> None:
    values = json.loads((folder / "model.json").read_text())
    values["preprocessing"][field] = "HERE"
    (folder / "model.json").write_text(json.dumps(values).replace('"HERE"', number))
    with pytest.raises(ModelFileError, match=r"model\.json"):
        read_card(folder)


@pytest.mark.row(54, "a model: refused, exit 4, with `needs neocog >= x.y`")
def test_a_model_of_a_newer_neocog(neocog: Command, folder: Path) -> None:
    picture = Path("picture.png")
    change_card(folder, format=2, written_by="7.5.0", surprise={"layers": []}, classes=7)
    one_line_error(neocog("predict", folder.parent, picture), 4, "needs neocog >= 7.5.0", "upgrade")
    change_card(folder, format=2, written_by="<b>\n")
    one_line_error(neocog("predict", folder.parent, picture), 4, "needs a newer neocog")


def test_files_that_are_no_files(tmp_path: Path) -> None:
    for name in ("model.json", "w.safetensors", "w.pth"):
        os.mkfifo(tmp_path / name)  # opened, each would wait for ever
    with pytest.raises(ModelFileError, match="no regular file"):
        read_card(tmp_path)
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(ModelFileError, match="no regular file"):
            read_weights(tmp_path / name)
    (tmp_path / "big").mkdir()
    with (tmp_path / "big" / "model.json").open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(ModelFileError, match="more than 10,000,000 bytes"):
        read_card(tmp_path / "big")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, tuple[str, int]]]:
    """What each attack got, and the growth of memory in megabytes, in a process of its own."""
    folder = tmp_path_factory.mktemp("attacks")
    make_attacks(folder)
    program = Path(__file__).with_name("model_files.py")
    done = subprocess.run([sys.executable, program, folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


@pytest.mark.row(51, "refused, exit 4; nothing in it is run; under 50 MB of memory")
def test_harm_is_refused(opened: tuple[Path, dict[str, tuple[str, int]]]) -> None:
    folder, results = opened
    assert len(results) > 60
    wrong = {name: result for name, result in results.items() if not result[0].startswith("ModelFileError: ")}
    assert not wrong
    greedy = {name: megabytes for name, (_, megabytes) in results.items() if megabytes >= 50}
    assert not greedy
    assert not (folder / "canary").exists()
    for name, reason in {
        "malicious.pth": "holds Python objects, not only tensors (posix.system)",
        "bomb.pth": "is compressed",
        "expanded.pth": "claims 4,000,000,000,000 bytes for w and holds 4",
        "sparse.pth": "_rebuild_sparse_tensor",
        "quantised.pth": "_rebuild_qtensor",
        "pickle_behind.safetensors": "bytes of tensors, and its header describes 16",
        "shape_bomb.safetensors": "does not fit its bytes",
        "bundle_tall": "1 tensors have other shapes",
        "bundle_taller": "overflowed",
        "bundle_shaped": "more layers than the weights file holds",
        "bundle_tail": "bytes of tensors, and its header describes",
    }.items():
        assert reason in results[name][0]


def test_the_canary_can_sing(tmp_path: Path) -> None:
    """The malicious file does what it is said to do where nobody looks."""
    make_pickles(tmp_path)
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, tmp_path / "bare.pth"], check=True)
    assert (tmp_path / "canary").exists()


def test_old_and_new_files_of_torch_are_read(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = neocog.create_model(NAME, num_classes=4, **KNOBS)
    state = network.state_dict()
    parameters = {**state, **dict(network.named_parameters())}  # as files before torch 1.0 had them
    shared = torch.arange(12.0).reshape(3, 4)
    for number, (table, old) in enumerate(
        [
            (state, False),
            (state, True),
            ({"state_dict": parameters, "epoch": 7, "best": 0.5}, False),
            (parameters, True),
        ]
    ):
        path = tmp_path / f"{number}.pth"
        torch.save(table, path, _use_new_zipfile_serialization=not old)
        read = read_weights(path)
        assert all(torch.equal(read[key], tensor) for key, tensor in state.items())
        assert not any(tensor.requires_grad for tensor in read.values())
    torch.save({"a": shared, "b": shared.T, "c": shared[1], "d": torch.zeros(())}, tmp_path / "views.pth")
    views = read_weights(tmp_path / "views.pth")
    assert torch.equal(views["b"], shared.T)
    assert torch.equal(views["c"], shared[1])


@pytest.mark.parametrize("old", [True, False])
def test_torch_files_cut_anywhere(tmp_path: Path, old: bool) -> None:
    torch.save({"w": torch.zeros(50), "n": torch.zeros((), dtype=torch.int64)}, tmp_path / "good.pth",
               _use_new_zipfile_serialization=not old)  # fmt: skip
    good = (tmp_path / "good.pth").read_bytes()
    for place in range(0, len(good), len(good) // 60):
        (tmp_path / "cut.pth").write_bytes(good[:place])
        with pytest.raises(ModelFileError, match=r"cut\.pth"):
            read_weights(tmp_path / "cut.pth")


def test_the_published_files_are_still_read(shared: Path) -> None:
    for name, file in (("resnet20", "resnet20-12fca82f.th"), ("resnet32", "resnet32-d509ac18.th")):
        loaded = load_model(name, weights=str(shared / "data" / "weights" / "cifar10" / file))
        assert loaded.notes == []


def test_weights_from_a_run(folder: Path, tmp_path: Path) -> None:
    card, trained = open_network(folder)
    for path in (folder, folder.parent):
        same = load_model(NAME, weights=str(path), num_classes=4)
        assert same.knobs == KNOBS  # the run's own
        assert same.preprocessing == preprocessing_of(lookup(NAME), str(path)) == card.preprocessing
        assert same.provenance == {
            "weights": str(folder), "layout": "neocog", "sha256": card.sha256, "licence": "MIT",
        }  # fmt: skip
        state = same.network.state_dict()
        assert all(torch.equal(state[key], tensor) for key, tensor in trained.state_dict().items())
    other = load_model(NAME, weights=str(folder.parent), num_classes=7, in_channels=1)
    assert [note.split()[0] for note in other.notes] == ["new", "first"]
    assert other.network.num_classes == 7
    with pytest.raises(UsageError, match="holds mobilenet_v2, not resnet18; use --model mobilenet_v2"):
        load_model("resnet18", weights=str(folder.parent))
    with pytest.raises(ModelFileError, match="holds no finished run"):
        load_model(NAME, weights=str(tmp_path))


def test_options_that_published_weights_need_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run writes them into its model.json: without them its own network would be built otherwise."""
    state = neocog.create_model("mobilenet_v3_small").state_dict()
    torch.save(state, tmp_path / "published.pth")
    monkeypatch.setattr("neocog.app.zoo.local_copy", lambda published, on_progress: tmp_path / "published.pth")
    loaded = load_model("mobilenet_v3_small", weights="mobilenetv3_small_100.lamb_in1k", num_classes=3)
    assert loaded.knobs == {"eps": 1e-5}


@pytest.mark.parametrize("name", ["mnist_fcn", "squeezenet1_1", "lenet5"])
def test_a_bundle_of_any_network(tmp_path: Path, name: str) -> None:
    size = {"lenet5": 28}.get(name, 64)
    folder = make_bundle(tmp_path / name, name, size, {})
    card, network = open_network(folder)
    write_bundle(tmp_path / "again", network.state_dict(), card)
    assert (tmp_path / "again" / "model.json").read_bytes() == (folder / "model.json").read_bytes()
    change_card(folder, preprocessing={"size": 3, "resize": 3, "mean": [0], "std": [1], "interpolation": "bilinear"})
    if network.min_size > 3 or network.fixed_size:
        with pytest.raises(ModelFileError, match="3 x 3 pixels"):
            open_network(folder)


@pytest.mark.parametrize("name", [name for name in names("*") if lookup(name).spec.task == "reconstruction"])
def test_a_classifier_of_a_code_is_opened_again(tmp_path: Path, name: str) -> None:
    """It is built with a decoder, which the file does not hold."""
    folder = make_bundle(tmp_path / name, name, 28, {})
    card, network = open_network(folder)
    assert card.task == "classification"
    assert network(torch.zeros(2, card.in_channels, 28, 28)).shape == (2, len(CLASSES))


def test_a_model_is_opened_without_the_compiler(tmp_path: Path) -> None:
    """Which PyTorch imports for random numbers without memory: a second and more of every command on a run."""
    folder = make_bundle(tmp_path / "model", "resnet18", 64, {})
    code = f"""
import sys
from pathlib import Path
from neocog.app.zoo import load_model, open_network
open_network(Path({str(folder)!r}))
load_model("resnet18", weights={str(folder / "model.safetensors")!r}, num_classes=3)
print("torch._dynamo" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout.strip() == "False"
