"""Anything at all as a setting, as TOML, as model.json, as a weights file and as a picture: one of our errors or a good
answer, never a crash, a hang, a bug or a lot of memory. The draws are the same in every run."""

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from model_files import make_bundle
from neocog.app.zoo import open_network
from neocog.core.config import TrainConfig, load_config, validate
from neocog.core.errors import ModelFileError, NeocogError, UsageError
from neocog.export.bundle import ModelCard, read_card
from neocog.export.weights_file import read_weights

ODD_NUMBERS = st.sampled_from([0, -1, 1, 7, 2**31, 2**63, 10**30, 10**400, 1e-320, 1e30, 1e308, -0.0])
NUMBERS = st.integers() | st.floats() | ODD_NUMBERS
TEXT = st.text(st.characters(codec=None), max_size=20) | st.sampled_from(
    ["auto", "7", "true", "10m", "cuda:1", "\0", "[/red]", "caf\udce9", "\ud800", '"#=']
)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3))
KEYS = sorted(TrainConfig.model_fields)


def quick(examples: int) -> settings:
    """The same draws in every run, and no deadline: other programs want the same cores."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, suppress_health_check=checks)


def assert_one_line(error: NeocogError) -> None:
    assert str(error).isprintable()
    assert error.hint
    assert len(str(error)) < 20_000


@pytest.mark.row(34, "all errors at once, exit 2: key, value, what is allowed, the nearest valid key")
@quick(400)
@given(st.dictionaries(st.sampled_from(KEYS) | TEXT, VALUES, max_size=6), st.sampled_from(KEYS), VALUES)
def test_any_settings(values: dict[str, Any], key: str, value: Any) -> None:
    values = {"data": "x"} | values | {key: value}
    try:
        config = validate(values, "settings")
    except UsageError as error:
        assert_one_line(error)
        return
    for name, given_value in values.items():
        assert getattr(config, name) == given_value, f"{name} was changed without a word"


@quick(100)
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=2, max_size=5))
def test_no_error_hides_another(values: dict[str, Any]) -> None:
    """What is refused alone is refused, and named, in company."""
    alone = set()
    for key, value in values.items():
        try:
            validate({"data": "x", "weights": "w", key: value}, "settings")
        except UsageError:
            alone.add(key)
    if alone:
        with pytest.raises(UsageError) as caught:
            validate({"data": "x", "weights": "w"} | values, "settings")
        assert all(f"{key} = " in caught.value.cause or f"{key}." in caught.value.cause for key in alone)


@quick(200)
@given(st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=8))
def test_what_is_accepted_survives_its_file(tmp_path: Path, values: dict[str, Any]) -> None:
    config = TrainConfig(data="x")
    for key, value in values.items():
        try:
            config = validate(config.model_dump() | {key: value}, "settings")
        except UsageError:
            continue
    path = tmp_path / "c.toml"
    path.write_bytes(config.to_toml("a comment").encode("utf-8", "surrogateescape"))
    assert load_config(path, {}) == config


GOOD_TOML = TrainConfig(data="x", knobs={"width": 0.5}, group_by="(a)").to_toml("neocog").encode()
TOML_PIECES = st.sampled_from(
    [b"[", b"]", b"=", b'"', b"'''", b".", b"#", b"\n", b"\xff", b"\0", b"{", b"nan", b"-", b"e9"]
)


@pytest.mark.row(35, "refused, exit 2, from at most 20,000 bytes; a byte-order mark is accepted")
@quick(400)
@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD_TOML)), st.integers(0, 8), TOML_PIECES | st.binary(max_size=4)), max_size=6
    )
)
def test_any_text_as_settings(tmp_path: Path, edits: list[tuple[int, int, bytes]]) -> None:
    text = GOOD_TOML
    for place, removed, piece in edits:
        text = text[:place] + piece + text[place + removed :]
    path = tmp_path / "c.toml"
    path.write_bytes(text)
    try:
        load_config(path, {})
    except UsageError as error:
        assert_one_line(error)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle"), "mnist_fcn", 32, {})


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, inner in items for path in paths(inner, (*here, key)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any, remove: bool) -> Any:
    if not path:
        return new
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    if remove:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return value


@pytest.mark.row(50, "`model.json`: refused, exit 4, with the field that is wrong")
@quick(400)
@given(st.data())
def test_any_model_json(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.json"
    good = path.read_text()
    values = json.loads(good)
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(paths(values)))
        values = replaced(values, place, data.draw(VALUES), data.draw(st.booleans()))
    try:
        path.write_text(json.dumps(values))
        card, network = open_network(folder)
        assert isinstance(card, ModelCard)
        assert network.num_classes == len(card.classes)
    except ModelFileError as error:
        assert_one_line(error)
    finally:
        path.write_text(good)


@quick(200)
@given(st.data())
def test_any_text_as_model_json(folder: Path, data: st.DataObject) -> None:
    path = folder / "model.json"
    good = path.read_bytes()
    place = data.draw(st.integers(0, len(good)))
    piece = data.draw(st.binary(max_size=6) | st.sampled_from([b"{", b"[", b'"', b"NaN", b"1e999", b"\\ud800", b","]))
    try:
        path.write_bytes(good[:place] + piece + good[place + data.draw(st.integers(0, 6)) :])
        read_card(folder)
    except ModelFileError as error:
        assert_one_line(error)
    finally:
        path.write_bytes(good)


@pytest.mark.row(50, "a weights file: refused, exit 4, or read as what it holds")
@pytest.mark.parametrize("kind", ["safetensors", "pth", "old.pth"])
@quick(400)
@given(data=st.data())
def test_any_weights_file(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    path, good = tmp_path / f"w.{kind}", tmp_path / f"good.{kind}"
    if not good.exists():
        state = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}
        if kind == "safetensors":
            save_file(state, good)
        else:
            torch.save(state, good, _use_new_zipfile_serialization=kind == "pth")
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, 2)) * len(content) or data.draw(st.integers(0, len(content)))])
    try:
        state = read_weights(path)
        assert sum(tensor.nbytes for tensor in state.values()) < 10_000
    except ModelFileError as error:
        assert_one_line(error)


@pytest.mark.row(1, "cut anywhere, flipped or spliced, in every format: excluded with a reason, or decoded whole")
def test_damaged_pictures(tmp_path: Path) -> None:
    """In a process of its own: a crash would take it down, and a watchdog ends it where a picture takes a minute."""
    program = Path(__file__).with_name("fuzz_pictures.py")
    done = subprocess.run([sys.executable, program, "7", "6000", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert sum(found["counts"].values()) == 6000
    assert min(found["counts"]["decoded"], found["counts"]["refused"]) > 1000
    assert found["megabytes"] < 100
