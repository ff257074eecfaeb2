"""Settings that are wrong are all named at once, each with what is allowed; files that are no settings are refused.

Anything at all as a value, and text that is hardly TOML, are in test_fuzz.py.
"""

import os
from pathlib import Path

import pytest

from command import Command, one_line_error
from neocog.core.config import TrainConfig, load_config, read_toml, validate
from neocog.core.errors import UsageError


def refusal(**values: object) -> str:
    with pytest.raises(UsageError) as caught:
        validate({"data": "x"} | values, "settings")
    assert caught.value.exit_code == 2
    assert str(caught.value).isprintable()
    return caught.value.cause


@pytest.mark.row(34, "all errors at once, exit 2: key, value, what is allowed, the nearest valid key")
@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("epohcs", 3, "unknown key 'epohcs' (did you mean 'epochs'?)"),
        ("epochs", True, "epochs = True: must be a whole number, at least 1 and at most 100,000"),
        ("epochs", "7", "epochs = '7': must be a whole number"),
        ("epochs", 2.5, "epochs = 2.5: must be a whole number"),
        ("epochs", -1, "epochs = -1: must be a whole number, at least 1"),
        ("epochs", 10**30, "at most 100,000"),
        ("epochs", 1e30, "epochs = 1e+30: must be a whole number"),
        ("lr", float("nan"), "lr = nan: must be a finite number, above 0 and at most 100"),
        ("lr", float("inf"), "lr = inf: must be a"),
        ("lr", 1e9, "lr = 1000000000.0: must be a number, above 0 and at most 100"),
        ("lr", 10**400, "lr = 1000"),
        ("lr", True, "lr = True: must be a number"),
        ("batch_size", 0, "batch_size = 0: must be a whole number, at least 1 and at most 65,536"),
        ("image_size", 7, "image_size = 7: must be a whole number, at least 8 and at most 2,048"),
        ("image_size", 100_000, "at most 2,048"),
        ("strict", 1, "strict = 1: must be true or false"),
        ("optimizer", "adma", "optimizer = 'adma': must be one of sgd, adam, adamw, rmsprop"),
        ("time", "ten minutes", "time = 'ten minutes': must be text such as 90s, 10m, 2h"),
        ("time", "9" * 400 + "h", "must be text such as"),
        ("background", "pink", "must be text such as white, black, grey, #00ff7f"),
        ("device", "cuda:" + "9" * 30, "must be text such as auto, cpu, cuda, cuda:0, mps"),
        ("data", "a\0b", "NUL"),
        ("data", "a\ud800b", "surrogate"),
        ("group_by", "caf\udce9", "group_by = "),
        ("data", None, "data = None: must be text"),
        ("knobs", {"width": [1]}, "knobs.width"),
        ("group_by", "([a-z", "group_by = '([a-z': it is no regular expression (unterminated"),
        ("group_by", "a{99999999999}", "no regular expression"),
        ("group_by", "(" * 900, "no regular expression"),
        ("group_by", "x" * 1001, "group_by"),
        ("val_fraction", 1, "val_fraction = 1.0: must be a number, at least 0 and below 1"),
    ],
)
def test_each_wrong_setting(key: str, value: object, words: str) -> None:
    assert words in refusal(**{key: value})


@pytest.mark.row(34, "all errors at once, exit 2: key, value, what is allowed, the nearest valid key")
def test_all_errors_at_once() -> None:
    cause = refusal(epochs=True, lr=-1, val_fraction=0.6, test_fraction=0.6, regime="probe", batchsize=8)
    assert cause.startswith("settings (5 errors): ")
    for words in ("epochs = True", "lr = -1.0", "val_fraction + test_fraction", "needs weights", "'batch_size'"):
        assert words in cause
    # What hangs on a setting that is itself wrong is not guessed at.
    assert "test_fraction" not in refusal(val_fraction=2, test_fraction=0.5)
    assert "needs weights" not in refusal(regime="probe", weights=7)


def test_whole_numbers_are_welcome_as_fractions() -> None:
    config = validate({"data": "x", "lr": 3, "rotation": 10, "ema": None}, "settings")
    assert (config.lr, config.rotation) == (3.0, 10.0)
    assert isinstance(config.lr, float)


def test_every_setting_says_what_is_allowed() -> None:
    for key in TrainConfig.model_fields:
        words = refusal(**{key: object()})
        assert f"{key} = <object" in words
        assert "must be " in words


@pytest.mark.row(35, "refused, exit 2, from at most 20,000 bytes; a byte-order mark is accepted")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"epochs = 1\nepochs = 2\n", "overwrite"),
        (b'data = "x"\ndevice = "caf\xe9"\n', "utf-8"),
        (b'data = "x" # caf\xe9\n', "utf-8"),
        (b"a = " + b"[" * 9_000, "TOML"),
        (b"a = " + b"{a=" * 5_000, "TOML"),
        (b".".join([b"a"] * 9_000) + b" = 1", "c.toml"),
        (b"knobs." + b".".join([b"a"] * 9_000) + b" = 1", "knobs.a"),
        (b"lr = " + b"9" * 5000, "TOML"),
        (b"lr = 0x" + b"f" * 15_000, "too large to show"),
        (b"\x00\x01\x02", "TOML"),
        (b"[train]\nepochs = 3\n", "unknown key 'train'"),
        (b"epochs = 1979-05-27T07:32:00Z\n", "epochs"),
        (b"#" * 20_001, "more than 20,000 bytes"),
    ],
)
def test_files_that_are_no_settings(neocog: Command, content: bytes, words: str) -> None:
    Path("c.toml").write_bytes(content)
    one_line_error(neocog("train", "pictures", "--config", "c.toml"), 2, "c.toml", words)


@pytest.mark.row(35, "refused, exit 2, from at most 20,000 bytes; a byte-order mark is accepted")
def test_things_that_are_no_files(neocog: Command) -> None:
    os.mkfifo("pipe.toml")  # opened, it would wait for ever
    Path("folder.toml").mkdir()
    with Path("huge.toml").open("wb") as file:
        file.truncate(100_000_000)
    for name, words in (
        ("pipe.toml", "no regular file"), ("folder.toml", "no regular file"), ("/dev/zero", "no regular file"),
        ("huge.toml", "more than 20,000 bytes"), ("absent.toml", "No such file"),
    ):  # fmt: skip
        one_line_error(neocog("train", "pictures", "--config", name), 2, name, words)


@pytest.mark.row(35, "refused, exit 2, from at most 20,000 bytes; a byte-order mark is accepted")
def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b'\xef\xbb\xbfdata = "x"\r\nepochs = 3\r\n')
    assert load_config(tmp_path / "c.toml", {}).epochs == 3


def test_the_complete_settings_are_far_from_the_limit(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(TrainConfig(data="x").to_toml())
    assert (tmp_path / "c.toml").stat().st_size < 10_000
    assert read_toml(tmp_path / "c.toml")["data"] == "x"


@pytest.mark.row(20, "a run of a folder whose name is no UTF-8 reads its own settings again")
def test_a_path_may_hold_any_bytes(tmp_path: Path) -> None:
    config = TrainConfig(data=os.fsdecode(b"caf\xe9/\xff"), weights=os.fsdecode(b"\xfe.pth"))
    (tmp_path / "c.toml").write_bytes(config.to_toml().encode("utf-8", "surrogateescape"))
    assert load_config(tmp_path / "c.toml", {}) == config
