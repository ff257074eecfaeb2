"""`neocog val RUN --verify`: what is as it was passes, and whatever was touched is named."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import neocog as package
from command import Command, one_line_error
from drawn import colours
from neocog.app import verifying
from neocog.app.verifying import DAMAGED, DATA_CHANGED, Check, exit_code, verify
from neocog.core.errors import UsageError
from neocog.core.files import sha256_of


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` and a finished `run`."""
    place = tmp_path_factory.mktemp("verify")
    colours(place / "data", 8)
    package.train(place / "data", "mnist_fcn", epochs=2, batch_size=8, lr=0.02, device="cpu", out=place / "run")
    return place


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    config, record = tmp_path / "run" / "config.toml", tmp_path / "run" / "run.json"
    before = sha256_of(config)
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    record.write_text(record.read_text().replace(before, sha256_of(config)))
    return tmp_path


def failed(place: Path) -> dict[str, Check]:
    return {check.name: check for check in verify(place / "run") if check.verdict == "failed"}


def test_an_untouched_run_passes(made: Path, neocog: Command) -> None:
    shown = neocog("val", made / "run", "--verify")
    assert shown.code == 0, shown.out
    for words in ("all 24 have the sha256", "numbers of run.json follow", "largest difference of 18 probabilities 0,",
                  "under the same conditions", "all is as the run recorded it"):  # fmt: skip
        assert words in shown.out
    found = json.loads(neocog("val", made / "run", "--verify", "--json").out)
    assert found["exit_code"] == 0
    assert {check["verdict"] for check in found["checks"]} == {"ok"}
    assert [check["check"] for check in found["checks"]] == [
        "run.json", "config.toml", "split.csv", "pictures", "weights", "checkpoints", "predictions", "results",
        "network",
    ]  # fmt: skip


@pytest.mark.row(14, "`val --verify` names it as `changed_since_scan`, exit code 3")
def test_pictures_that_changed_went_or_came_are_named(place: Path, neocog: Command) -> None:
    red = place / "data" / "red"
    content = bytearray((red / "02.png").read_bytes())
    content[-30] ^= 1  # as long as before, and as old
    stat = (red / "02.png").stat()
    (red / "02.png").write_bytes(content)
    os.utime(red / "02.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (red / "03.png").unlink()
    shutil.copy(red / "04.png", red / "new.png")
    shown = neocog("val", place / "run", "--verify")
    assert shown.code == DATA_CHANGED
    assert "pictures: 1 changed_since_scan, 1 gone, 1 new, of 24" in shown.out
    for words in ("changed_since_scan: red/02.png", "gone: red/03.png", "new: red/new.png", "network: not run again"):
        assert words in shown.out
    assert set(failed(place)) == {"pictures"}


def test_a_picture_that_was_excluded_is_not_new(tmp_path: Path) -> None:
    (colours(tmp_path / "data", 8) / "red" / "text.png").write_text("no picture")
    package.train(tmp_path / "data", "mnist_fcn", epochs=1, batch_size=8, max_excluded=0.1, out=tmp_path / "run")
    assert not failed(tmp_path)


def test_absent_data_are_said_to_be_so(place: Path) -> None:
    shutil.rmtree(place / "data")
    found = failed(place)
    assert set(found) == {"pictures"}
    assert exit_code(list(found.values())) == DATA_CHANGED


def edit(name: str, before: str, after: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        text = (run / name).read_text()
        assert before in text
        (run / name).write_text(text.replace(before, after, 1))

    return change


def flip(pattern: str) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        path = next(iter(sorted(run.glob(pattern))))
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)

    return change


def guess(run: Path) -> None:
    """Another `predicted` in the first row."""
    lines = (run / "predictions.csv").read_text().splitlines()
    cells = lines[1].split(",")
    cells[3] = "red" if cells[3] != "red" else "blue"
    (run / "predictions.csv").write_text("\n".join([lines[0], ",".join(cells), *lines[2:]]) + "\n")


def lose_row(run: Path) -> None:
    lines = (run / "predictions.csv").read_text().splitlines()
    (run / "predictions.csv").write_text("\n".join(lines[:-1]) + "\n")


def better(run: Path) -> None:
    """An accuracy that the predictions do not have."""
    record = json.loads((run / "run.json").read_text())
    record["results"]["test"]["per_class"][0]["recall"] = 0.123
    (run / "run.json").write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("damage", "check", "words"),
    [
        (edit("run.json", '"seed"', '"sed"'), "run.json", "damaged"),
        (edit("config.toml", "seed", "sed"), "config.toml", "sed"),
        (edit("scan.json", "{", ""), "pictures", "scan.json is damaged"),
        (edit("split.csv", ",val,", ",test,"), "split.csv", "not the one of run.json"),
        (flip("model/model.safetensors"), "weights", "model.json names another sha256 and run.json"),
        (edit("model/model.json", '"sha256": "', '"sha256": "0'), "weights", "model.json is damaged"),
        (lambda run: (run / "model" / "model.safetensors").unlink(), "weights", "cannot be read"),
        (flip("checkpoints/best-*"), "checkpoints", "1 of "),
        (flip("checkpoints/state-*"), "checkpoints", "1 of "),
        (edit("checkpoint.json", "state-", "stale-"), "checkpoints", "it names what is no checkpoint"),
        (edit("checkpoint.json", "state-000", "state-009"), "checkpoints", "does not exist"),
        (edit("config.toml", "image_size = ", "image_size = 1"), "config.toml", "not the one of run.json"),
        (edit("metrics.jsonl", '"steps"', '"strides"'), "checkpoints", "not what the checkpoint remembers"),
        (lambda run: (run / "metrics.jsonl").unlink(), "checkpoints", "metrics.jsonl"),
        (lambda run: [path.unlink() for path in run.glob("checkpoints/best-*")], "checkpoints", "is missing"),
        (lambda run: (run / "scan.json").write_text("null"), "pictures", "scan.json is damaged"),
        (edit("run.json", '"sittings": [', '"sittings": [], "x": ['), "run.json", "damaged"),
        (guess, "predictions", "in 1 places"),
        (lose_row, "predictions", "in 1 places"),
        (edit("predictions.csv", "file,", "files,"), "predictions", "not a predictions file"),
        (better, "results", "numbers of run.json 1 do not follow"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_named(place: Path, damage: Callable[[Path], Any], check: str, words: str) -> None:
    damage(place / "run")
    found = verify(place / "run")
    wrong = {one.name: one for one in found if one.verdict == "failed"}
    assert words in wrong[check].text
    assert exit_code(found) == DAMAGED
    if check == "results":
        assert wrong[check].items == ("test.per_class.0.recall is 0.123, recomputed 1.0",)


def test_other_weights_under_a_right_hash_are_found_by_running_them(place: Path) -> None:
    run = place / "run"
    weights = run / "model" / "model.safetensors"
    before = sha256_of(weights)
    values = load_file(weights)
    name = next(name for name in values if name.endswith("weight"))
    values[name] = values[name] * 1.5
    save_file(values, weights)
    for path in (run / "model" / "model.json", run / "run.json"):
        path.write_text(path.read_text().replace(before, sha256_of(weights)))
    found = failed(place)
    assert set(found) == {"network"}
    assert "at most 0 expected under the same conditions" in found["network"].text


def test_other_conditions_are_named_and_allow_a_little(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record = json.loads((place / "run" / "run.json").read_text())
    record["sittings"][-1] |= {"threads": 77, "bf16": False}
    (place / "run" / "run.json").write_text(json.dumps(record))
    network = next(check for check in verify(place / "run") if check.name == "network")
    assert network.verdict == "ok"
    assert "threads was 77 and is" in network.text
    assert "at most 0 expected" not in network.text
    monkeypatch.setattr(verifying, "TOLERANCE", -1.0)
    monkeypatch.setattr(verifying, "TOLERANCE_BF16", -1.0)
    assert set(failed(place)) == {"network"}


def test_folds_are_verified_one_by_one_and_together(tmp_path: Path) -> None:
    colours(tmp_path / "data", 4)
    package.train(tmp_path / "data", "mnist_fcn", epochs=1, batch_size=8, folds=2, out=tmp_path / "run")
    found = verify(tmp_path / "run")
    assert {check.verdict for check in found} == {"ok"}
    assert [check.name for check in found if check.name.endswith("results")] == ["fold-01 results", "fold-02 results"]
    edit("folds.json", '"pictures": 12', '"pictures": 13')(tmp_path / "run")
    assert failed(tmp_path)["folds"].items == ("pooled.pictures is 13, recomputed 12",)
    lose_row(tmp_path / "run")
    assert "not what those of the runs say" in failed(tmp_path)["folds"].text


def test_what_verify_is_not_about(made: Path, neocog: Command) -> None:
    one_line_error(neocog("val", made / "run", made / "data", "--verify"), 2, "--verify", "leave out")
    one_line_error(neocog("val", made / "data", "--verify"), 2, "not a run folder")


def test_an_unfinished_run_cannot_be_verified(place: Path) -> None:
    record = json.loads((place / "run" / "run.json").read_text())
    (place / "run" / "run.json").write_text(json.dumps(record | {"weights": "", "results": {}}))
    with pytest.raises(UsageError, match="is not finished; `neocog resume"):
        verify(place / "run")
