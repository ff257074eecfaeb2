"""What DATA may be, and what each thing that it may not be is told."""

import gzip
import lzma
import os
import pickle
import unicodedata
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import pictures
from neocog.core.errors import DataError
from neocog.data.source import Source, open_source


def refused(data: Path | str, *words: str, **options: bool) -> str:
    with pytest.raises(DataError) as caught:
        open_source(str(data), **options)
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert caught.value.hint
    return text


def labels(source: Source) -> dict[str, int]:
    return dict(Counter(item.label for item in source.items))


@pytest.mark.row(30, "pictures in nested folders count to their class, with a warning")
def test_class_folders_with_nested_pictures(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path, {"dog": 2, "cat": 3})
    (tmp_path / "dog" / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "dog" / "deep" / "deeper" / "x.png").write_bytes(pictures.encode(pictures.photo(), "PNG"))
    source = open_source(str(tmp_path))
    assert labels(source) == {"cat": 3, "dog": 3}
    assert source.classes == ["cat", "dog"]
    assert [item.file for item in source.items][-1] == "dog/deep/deeper/x.png"
    assert all(item.split is None for item in source.items)
    assert source.warnings == ["1 picture in folders below 'dog' counts to the class 'dog'"]


@pytest.mark.parametrize("val", ["val", "valid", "Validation", None])
def test_split_folders(tmp_path: Path, val: str | None) -> None:
    for name in ["train", "test", *([val] if val else [])]:
        pictures.write_classes(tmp_path / name, {"a": 2, "b": 1})
    source = open_source(str(tmp_path))
    expected = {"train": 3, "test": 3} | ({"val": 3} if val else {})
    assert Counter(item.split for item in source.items) == expected
    assert "test/a/0.png" in [item.file for item in source.items]
    assert source.classes == ["a", "b"]


def test_a_class_called_train_is_no_split(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path, {"train": 2, "bus": 2})
    assert open_source(str(tmp_path)).classes == ["bus", "train"]


def test_wrong_split_folders(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path / "a" / "val", {"x": 1, "y": 1})
    refused(tmp_path / "a", "no train folder")
    for name in ("train", "val", "valid"):
        pictures.write_classes(tmp_path / "b" / name, {"x": 1, "y": 1})
    refused(tmp_path / "b", "name one split twice")
    pictures.write_classes(tmp_path / "c" / "train", {"x": 1, "y": 1})
    pictures.write_classes(tmp_path / "c" / "test", {"x": 1, "z": 1})
    refused(tmp_path / "c", "test has classes that train has not: z")


@pytest.mark.row(16, "links are passed over and counted")
@pytest.mark.row(17, "passed over and counted `not_regular_file`")
@pytest.mark.row(23, "passed over and counted `hidden`")
def test_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path, {"a": 2, "b": 2})
    for name in (".DS_Store", "Thumbs.db", ".hidden.png"):
        (tmp_path / "a" / name).write_bytes(b"x")
    for name in ("__MACOSX", ".ipynb_checkpoints"):
        pictures.write_classes(tmp_path / name, {"c": 1})
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    (tmp_path / "b" / "README").write_text("no picture")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "link.png").symlink_to(tmp_path / "b" / "0.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "logo.png").write_bytes(pictures.encode(pictures.photo(), "PNG"))
    source = open_source(str(tmp_path))
    assert labels(source) == {"a": 2, "b": 2}
    assert source.ignored == {
        "hidden": 5, "*.txt": 1, "no suffix": 1, "not_regular_file": 1, "link": 3, "in_root": 1,
    }  # fmt: skip
    assert "logo.png" in source.warnings[0]


def test_pictures_under_other_names_are_not_passed_over(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path, {"a": 1, "b": 1})
    data = pictures.encode(pictures.photo(), "PNG")
    (tmp_path / "a" / "picture").write_bytes(data)
    (tmp_path / "a" / "picture.dat").write_bytes(data)
    (tmp_path / "a" / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert labels(open_source(str(tmp_path))) == {"a": 4, "b": 1}


@pytest.mark.row(16, "`--follow-links` reads each file once")
def test_links_are_followed_once_when_asked(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path / "data", {"a": 2, "b": 1})
    elsewhere = pictures.write_classes(tmp_path / "more", {"c": 2})
    (root / "c").symlink_to(elsewhere / "c")
    (root / "a" / "back").symlink_to(root)
    (root / "a" / "again.png").symlink_to(root / "b" / "0.png")
    (root / "c2").symlink_to(elsewhere / "c")
    assert labels(open_source(str(root))) == {"a": 2, "b": 1}
    source = open_source(str(root), follow_links=True)
    assert sum(labels(source).values()) == 5
    assert labels(source)["c"] == 2
    assert source.ignored["same_file"] == 3
    (root / "a" / "again.png").unlink()
    (root / ".store").mkdir()
    (root / "b" / "0.png").rename(root / ".store" / "0.png")
    (root / "b" / "0.png").symlink_to(root / ".store" / "0.png")
    assert labels(open_source(str(root), follow_links=True))["b"] == 1


@pytest.mark.row(19, "only names")
@pytest.mark.row(20, "only names")
@pytest.mark.row(21, "classes like any other")
def test_strange_names_are_only_names(tmp_path: Path) -> None:
    classes = [
        "<script>",
        "{{7*7}}",
        "[red]",
        "=1+1",
        "\x1b[31m",
        "CON",
        "-rf",
        "a b'c\"",
        "\nline",
        "שלום",
        "🦊",
        "x" * 255,
    ]
    pictures.write_classes(tmp_path, dict.fromkeys(classes, 1))
    raw = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(raw)
    (tmp_path / "-rf" / "0.png").rename(os.fsdecode(raw + b"/\xff.png"))
    (tmp_path / "-rf").rmdir()
    source = open_source(str(tmp_path))
    assert source.classes == sorted([name for name in classes if name != "-rf"] + ["caf\udce9"])
    assert "caf\udce9/\udcff.png" in [item.file for item in source.items]


@pytest.mark.row(19, "classes that differ in NFC and NFD only are exit 3 with both names")
@pytest.mark.row(22, "exit 3 with both names")
def test_names_that_would_collide(tmp_path: Path) -> None:
    pictures.write_classes(tmp_path / "case", {"Cat": 1, "cat": 1})
    refused(tmp_path / "case", "'Cat'", "'cat'", "upper and lower case")
    composed = "caf\u00e9"
    pictures.write_classes(tmp_path / "form", {composed: 1, unicodedata.normalize("NFD", composed): 1})
    refused(tmp_path / "form", "NFC and NFD", r"caf\xe9")


@pytest.mark.row(26, "exit 3: at least two classes are needed")
@pytest.mark.row(27, "exit 3 with its name, or left out with `--allow-empty-classes`")
@pytest.mark.row(30, "a message of its own for each, with what to do; an archive is to be unpacked")
def test_folders_that_cannot_be_learned_from(tmp_path: Path) -> None:
    refused(tmp_path / "missing", "there is no folder", "missing")
    (tmp_path / "dogs").mkdir()
    refused(tmp_path / "dogs", "is empty", "one folder per class")
    refused(tmp_path / "dgos", "did you mean", "dogs")
    (tmp_path / "flat").mkdir()
    for i in range(3):
        (tmp_path / "flat" / f"{i}.png").write_bytes(pictures.encode(pictures.photo(), "PNG"))
    refused(tmp_path / "flat", "3 pictures but no class folders")
    pictures.write_classes(tmp_path / "one", {"only": 3})
    refused(tmp_path / "one", "only one class, 'only'", "at least two classes")
    pictures.write_classes(tmp_path / "hole", {"a": 1, "b": 1, "c": 0})
    refused(tmp_path / "hole", "'c' holds no pictures", "--allow-empty-classes")
    source = open_source(str(tmp_path / "hole"), allow_empty_classes=True)
    assert source.classes == ["a", "b"]
    assert "'c'" in source.warnings[0]
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("a/1.png", b"")
    refused(tmp_path / "data.zip", "unpack it")
    (tmp_path / "packed").mkdir()
    (tmp_path / "data.zip").rename(tmp_path / "packed" / "data.zip")
    refused(tmp_path / "packed", "archive", "unpack it")
    (tmp_path / "one.png").write_bytes(b"")
    refused(tmp_path / "one.png", "single file")
    (tmp_path / "nowhere").symlink_to(tmp_path / "not there")
    refused(tmp_path / "nowhere", "broken link")
    refused("a\0b", r"a\x00b")


def test_table(tmp_path: Path) -> None:
    root = pictures.write_classes(tmp_path, {"x": 2, "y": 1})
    table = root / "list.csv"
    table.write_text(
        "\ufeffPath, label ,split,extra\nx/0.png,one,train,1\nx/1.png,two,VALID,\n\ny/0.png,one,test,\n", "utf-8"
    )
    source = open_source(str(table))
    assert [(item.file, item.label, item.split) for item in source.items] == [
        ("x/0.png", "one", "train"), ("x/1.png", "two", "val"), ("y/0.png", "one", "test"),
    ]  # fmt: skip
    assert all(item.path is not None and item.path.is_file() for item in source.items)
    assert source.warnings == ["list.csv: the columns extra are not used"]
    table.write_text("path;label\nx/0.png;1\nx/1.png;10\nx/1.png;10\n")
    source = open_source(str(table))
    assert source.classes == ["1", "10"]
    assert "listed twice (rows 3 and 4)" in source.warnings[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["the first line must name", "nothing"]),
        ("file,class\na,b\n", ["path,label[,split]", "file, class"]),
        ("path,label\na.png\n", ["row 2 has 1 cells, the header 2"]),
        ("path,label\na.png,\n", ["row 2 has an empty path or label"]),
        ("path,label,split\na.png,x,later\n", ["row 2 has the split 'later'", "train, val or test"]),
        ("path,label,split\na.png,x,train\nb.png,y,\n", ["1 rows have an empty split"]),
        ("path,label\na.png,x\na.png,y\n", ["a.png is 'x' in row 2 and 'y' in row 3"]),
        ("path,label\na.png,0.5\nb.png,1.25\n", ["decimal numbers"]),
        ("path,label\na.png,Cat\nb.png,cat\n", ["'Cat' and 'cat' differ only"]),
        ("path,label\na.png,x\n", ["only one class"]),
        ("path,label\n", ["holds no pictures"]),
        ('path,label\n"a.png,x\n', ["not a valid CSV"]),
    ],
)
def test_wrong_tables(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "t.csv").write_text(text)
    refused(tmp_path / "t.csv", *words)


def test_digits_need_nothing() -> None:
    source = open_source("digits")
    assert len(source.items) == 1797
    assert source.classes == list("0123456789")
    assert source.arrays is not None
    pixels = source.arrays["pixels"]
    assert pixels.shape == (1797, 8, 8, 1)
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert all(item.split is None for item in source.items)


def test_named_set_that_is_not_here_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEOCOG_DATA", str(tmp_path / "sets"))
    refused("cifar10", "not on this machine", f"`neocog data get cifar10 {tmp_path}/sets/cifar10`", "170 MB")
    refused("cifar", "did you mean")


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def write_idx(folder: Path, first_labels: list[int]) -> np.ndarray:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    train = rng.integers(0, 256, (30, 28, 28), dtype=np.uint8)
    train_labels = np.array((first_labels + list(range(10)) * 2)[:30], np.uint8)
    (folder / "train-images-idx3-ubyte.xz").write_bytes(lzma.compress(idx(train)))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(train_labels)))
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx(train[:10]))
    (folder / "t10k-labels.idx1-ubyte").write_bytes(idx(np.arange(10, dtype=np.uint8)))
    return train


def test_idx_files_wherever_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = write_idx(tmp_path / "mnist" / "MNIST" / "raw", [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    source = open_source(str(tmp_path / "mnist"))
    assert source.name == "mnist"
    assert source.arrays is not None
    assert (source.arrays["pixels"][:30, ..., 0] == train).all()
    assert Counter(item.split for item in source.items) == {"train": 30, "test": 10}
    assert [item.label for item in source.items[:3]] == ["5", "0", "4"]
    assert source.items[31].file == "test/00001"
    monkeypatch.setenv("NEOCOG_DATA", str(tmp_path))
    assert open_source("mnist").name == "mnist"
    write_idx(tmp_path / "fashion-mnist", [9, 0, 0, 3, 0, 2, 7, 2, 5, 5])
    source = open_source("fashion-mnist")
    assert source.items[0].label == "Ankle boot"
    (tmp_path / "cifar10").symlink_to(tmp_path / "mnist")
    refused("cifar10", "holds mnist, not cifar10")


@pytest.mark.parametrize("harm", ["cut", "longer", "text", "missing", "packed"])
def test_damaged_idx_files(tmp_path: Path, harm: str) -> None:
    write_idx(tmp_path / "x", [5])
    path = tmp_path / "x" / "t10k-images-idx3-ubyte"
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
        refused(tmp_path / "x", "lacks t10k-images-idx3-ubyte")
        return
    if harm == "packed":
        path = tmp_path / "x" / "train-images-idx3-ubyte.xz"
        path.write_bytes(path.read_bytes()[:1000])
    else:
        path.write_bytes({"cut": data[:-1], "longer": data + b"\0", "text": b"hello"}[harm])
    refused(tmp_path / "x", path.name, "get it again")


def test_cifar_binary_and_pickled(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 256, (60, 3072), dtype=np.uint8)
    numbers = np.arange(60, dtype=np.uint8) % 10
    batches = [slice(10 * i, 10 * i + 10) for i in range(6)]
    for form in ("bin", "py"):
        folder = tmp_path / form / f"cifar-10-batches-{form}"
        folder.mkdir(parents=True)
        for i, part in enumerate(batches):
            name = f"data_batch_{i + 1}" if i < 5 else "test_batch"
            if form == "bin":
                records = np.concatenate([numbers[part, None], planes[part]], axis=1)
                (folder / f"{name}.bin").write_bytes(records.tobytes())
            else:
                content = {"data": planes[part], "labels": numbers[part].tolist(), "batch_label": name}
                (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    one, other = open_source(str(tmp_path / "bin")), open_source(str(tmp_path / "py"))
    assert one.items == other.items
    assert one.name == other.name == "cifar10"
    assert one.items[0].label == "airplane"
    assert one.arrays is not None
    assert other.arrays is not None
    assert (one.arrays["pixels"] == other.arrays["pixels"]).all()
    # pixel (row 2, column 5) of picture 7: red, green and blue planes lie 1024 bytes apart
    assert one.arrays["pixels"][7, 2, 5].tolist() == planes[7, [69, 69 + 1024, 69 + 2048]].tolist()
    assert Counter(item.split for item in one.items) == {"train": 50, "test": 10}


def test_cifar100_binary(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (200, 3074), dtype=np.uint8)
    rows[:, 1] = np.arange(200) % 100
    (tmp_path / "train.bin").write_bytes(rows.tobytes())
    (tmp_path / "test.bin").write_bytes(rows[:100].tobytes())
    (tmp_path / "fine_label_names.txt").write_text("\n".join(f"kind_{i:02}" for i in range(100)) + "\n")
    source = open_source(str(tmp_path))
    assert source.name == "cifar100"
    assert len(source.classes) == 100
    assert source.items[3].label == "kind_03"
    (tmp_path / "test.bin").write_bytes(rows[:100].tobytes()[:-1])
    refused(tmp_path, "test.bin", "no whole number of pictures")


class Canary:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)

    def __init__(self, path: Path) -> None:
        self.path = path


def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path: Path) -> None:
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}").write_bytes(pickle.dumps({"data": Canary(tmp_path / "boo")}, protocol=2))
    refused(tmp_path, "data_batch_1", "which no array needs")
    assert not (tmp_path / "boo").exists()


def test_flowers(tmp_path: Path) -> None:
    from scipy.io import savemat

    (tmp_path / "jpg").mkdir()
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[1, 102, 1, 2]])})
    savemat(
        tmp_path / "setid.mat", {"trnid": np.array([[3, 2]]), "valid": np.array([[1, 4]]), "tstid": np.array([[4, 2]])}
    )
    source = open_source(str(tmp_path))
    assert source.name == "flowers102"
    assert [(item.file, item.label, item.split) for item in source.items[:2]] == [
        ("jpg/image_00003.jpg", "pink primrose", "train"), ("jpg/image_00002.jpg", "blackberry lily", "train"),
    ]  # fmt: skip
    (tmp_path / "setid.mat").write_bytes(b"broken")
    refused(tmp_path, "setid.mat is damaged")


def test_the_real_mnist(shared: Path) -> None:
    source = open_source(str(shared / "data" / "mnist"))
    assert source.name == "mnist"
    assert Counter(item.split for item in source.items) == {"train": 60_000, "test": 10_000}
    assert [item.label for item in source.items[:5]] == list("50419")
    assert source.arrays is not None
    train = source.arrays["pixels"][:60_000]
    assert round(float(train.mean() / 255), 4) == 0.1307
