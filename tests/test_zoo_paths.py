"""FractalNet and the Residual Attention Network, which no library at hand has. They are checked by closed-form
counts from the papers and by functional twins: straight code over the state dict, written from the papers' figures."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from draw import drawn, pictures
from judge import assert_same
from neocog.core.registry import lookup
from neocog.models.fractalnet import LOCAL, FractalBlock

State = dict[str, Tensor]

# Table 2 of the Residual Attention paper, in millions and in 10^9 multiply-accumulates.
PUBLISHED = [("residual_attention56", 31.9, 6.2, 0.004, 0.012), ("residual_attention92", 51.3, 10.4, 0.023, 0.014)]


@pytest.mark.parametrize(("name", "params", "macs", "off_params", "off_macs"), PUBLISHED)
def test_residual_attention_is_near_table_2(
    name: str, params: float, macs: float, off_params: float, off_macs: float
) -> None:
    """The paper gives two digits and no layers; how far our count is from it stands in the docstring of the model."""
    spec = lookup(name).spec
    assert spec.params / 1e6 == pytest.approx(params, rel=off_params)
    assert spec.macs / 1e9 == pytest.approx(macs, rel=off_macs)


def test_fractalnet_is_seven_convolutions_a_block() -> None:
    """Figure 1 with three columns: 1 + 2 + 4 convolutions, three of which read the block's input."""
    total, c_in = 0, 3
    for width in (64, 128, 256, 512, 512):
        total += 9 * (3 * c_in * width + 4 * width * width) + 7 * 2 * width
        c_in = width
    assert lookup("fractalnet20").spec.params == total + 512 * 10 + 10


def norm(x: Tensor, state: State, key: str) -> Tensor:
    mean, var, weight, bias = (state[f"{key}.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return (x - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None] * weight[:, None, None] + bias[:, None, None]


def test_fractalnet_against_its_recursion() -> None:
    """The paper's rule itself, f_1 = conv, f_C+1 = (f_C o f_C) joined with conv, in place of the rows of the model.
    A mean over nested pairs is not the mean over all columns, so the twin collects what is to be joined."""
    network = drawn("fractalnet20", (3, 32, 32))
    state = network.state_dict()

    def conv(x: Tensor, block: int, column: int, index: int) -> Tensor:
        key = f"stages.block{block}.block.columns.{column}.{index}"
        return norm(F.conv2d(x, state[f"{key}.conv.weight"], padding=1), state, f"{key}.norm").relu()

    used = {}

    def fractal(x: Tensor, block: int, columns: int) -> list[Tensor]:
        """The outputs that meet at the end of f_columns, shortest path first."""
        column = columns - 1
        here = 2 - column  # the single convolution of f_C is the model's column 3 - C, deepest last
        index = used.get((block, here), 0)
        used[block, here] = index + 1
        mine = conv(x, block, here, index)
        if columns == 1:
            return [mine]
        middle = torch.stack(fractal(x, block, columns - 1)).mean(0)
        return [mine, *fractal(middle, block, columns - 1)]

    x = pictures(2, (3, 48, 33))
    with torch.no_grad():
        answer, features = network(x), network.features(x)
        for block in range(1, 6):
            if block > 1:
                x = F.max_pool2d(x, 2)
            x = torch.stack(fractal(x, block, 3)).mean(0)
            assert_same(features[block - 1], x, f"block {block}")
        x = F.max_pool2d(x, 2).mean((2, 3))
        assert_same(answer, F.linear(x, state["head.fc.weight"], state["head.fc.bias"]), "scores")


def test_drop_path_keeps_one_column_or_at_least_one_path() -> None:
    block = FractalBlock(2, 2, 3, drop_path=0.6)
    columns = torch.tensor([0, 1, 2])
    keep = block._kept(torch.tensor([0, 1, 2, LOCAL]).repeat(2000), columns).view(3, 2000, 4)
    assert torch.equal(keep[:, :, :3], torch.eye(3, dtype=torch.bool)[:, None].expand(3, 2000, 3))
    local = keep[:, :, 3]
    assert local.any(dim=0).all()
    # Alone each stays in 40 % of cases; the 0.6 ** 3 in which all would go spare one of three at random.
    assert float(local.float().mean()) == pytest.approx(0.4 + 0.6**3 / 3, abs=0.03)


def test_a_picture_on_one_column_sees_only_that_column() -> None:
    """Global drop-path: with route c the block is column c's convolutions in a row."""
    network = drawn("fractalnet20", (3, 32, 32))
    block = network.stages.get_submodule("block1").block
    x = pictures(3, (3, 16, 16))
    with torch.no_grad():
        out = block(x, torch.tensor([0, 1, 2]))
        for column in range(3):
            torch.testing.assert_close(out[column : column + 1], block.columns[column](x[column : column + 1]))


def test_drop_path_belongs_to_training() -> None:
    network = drawn("fractalnet20", (3, 32, 32))
    x = pictures(8, (3, 32, 32))
    with torch.no_grad():
        assert torch.equal(network(x), network(x))
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d) or type(module).__name__ == "Dropout":
                continue
            module.training = True
        assert not torch.equal(network(x), network(x))
    with pytest.raises(ValueError, match="drop_path"):
        lookup("fractalnet20").build(drop_path=1.0)
    with pytest.raises(ValueError, match="columns"):
        lookup("fractalnet20").build(columns=0)


def test_residual_attention_against_figure_2() -> None:
    network = drawn("residual_attention56")
    state = network.state_dict()

    def nac(x: Tensor, key: str, stride: int = 1) -> Tensor:
        weight = state[f"{key}.2.weight"]
        return F.conv2d(norm(x, state, f"{key}.0").relu(), weight, stride=stride, padding=weight.shape[-1] // 2)

    def unit(x: Tensor, key: str, stride: int = 1) -> Tensor:
        y = nac(nac(nac(x, f"{key}.body.conv1"), f"{key}.body.conv2", stride), f"{key}.body.conv3")
        shortcut = state.get(f"{key}.shortcut.weight")
        return y + (x if shortcut is None else F.conv2d(x, shortcut, stride=stride))

    def pool(x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, 1)

    def grow(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)

    def mask(x: Tensor, key: str, halvings: int) -> Tensor:
        """Down, down, ..., two units at the bottom, up with what each level's skip kept."""
        levels, skips = [x], []
        for level in range(halvings):
            inside = key + ".inner" * level
            levels.append(unit(pool(levels[-1]), f"{inside}.down"))
            if level < halvings - 1:
                skips.append(unit(levels[-1], f"{inside}.skip"))
        y = levels[-1]
        for level in reversed(range(halvings)):
            y = grow(unit(y, key + ".inner" * level + ".up"), levels[level])
            if level:
                y = y + skips[level - 1]
        return y

    x = pictures(2, (3, 75, 66))
    with torch.no_grad():
        answer, features = network(x), network.features(x)
        x = pool(norm(F.conv2d(x, state["stem.conv.conv.weight"], stride=2, padding=3), state, "stem.conv.norm").relu())
        for number in (1, 2, 3):
            stage = f"stages.stage{number}"
            x = unit(x, f"{stage}.unit", 1 if number == 1 else 2)
            key = f"{stage}.attention1"
            x = unit(x, f"{key}.first")
            trunk = unit(unit(x, f"{key}.trunk.0"), f"{key}.trunk.1")
            m = mask(x, f"{key}.mask.hourglass", 4 - number)
            gate = torch.sigmoid(nac(nac(m, f"{key}.mask.conv1"), f"{key}.mask.conv2"))
            x = unit(trunk + gate * trunk, f"{key}.last")
            assert_same(features[number - 1], x, stage)
        for i in range(3):
            x = unit(x, f"stages.stage4.{i}", 2 if i == 0 else 1)
        assert_same(features[3], x, "stage4")
        x = norm(x, state, "head.norm").relu().mean((2, 3))
        assert_same(answer, F.linear(x, state["head.fc.weight"], state["head.fc.bias"]), "scores")
