"""The count against sums by hand, and its promise to leave the module alone and allocate nothing."""

import torch
from torch import nn

import neocog.models  # noqa: F401  (importing it registers the networks)
from neocog.core.registry import lookup
from neocog.costs.count import Count, count, on_meta


def test_a_convolution_and_a_dense_layer_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, stride=2, groups=2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 3 * 4, 5))
    weights = 8 * 2 * 3 * 3
    assert count(network, (4, 7, 9)) == Count(params=weights + 8 + 96 * 5 + 5, macs=weights * 3 * 4 + 96 * 5)


def test_shared_weights_count_once_and_work_twice() -> None:
    layer = nn.Linear(6, 6, bias=False)
    assert count(nn.Sequential(layer, layer), (6,)) == Count(params=36, macs=72)


def test_the_module_is_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    network[0].eval()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    count(network, (3, 8, 8))
    assert [m.training for m in network] == [False, True, True]
    assert all(torch.equal(tensor, before[key]) for key, tensor in network.state_dict().items())


def test_nothing_is_allocated() -> None:
    twin = on_meta(lookup("resnet18").build())
    assert {t.device.type for t in (*twin.parameters(), *twin.buffers())} == {"meta"}
    # 137 TB, if it were: a dense layer from every pixel of a 256 x 256 picture times 128 to as many units.
    with torch.device("meta"):
        giant = nn.Linear(256 * 256 * 128, 256 * 256 * 64)
    assert count(giant, (256 * 256 * 128,)).macs == 256**4 * 128 * 64


def test_one_dense_unit_per_pixel() -> None:
    # Deck 003: 65,536 weights a neuron, 4,294,967,296 in all; deck 004: 200 x 200 to 40,000 units, 1.6e9.
    with torch.device("meta"):
        pixels, deck_004 = nn.Linear(256**2, 256**2, bias=False), nn.Linear(200**2, 40_000, bias=False)
    assert count(pixels, (256**2,)).params == 4_294_967_296
    assert count(deck_004, (200**2,)).params == 1_600_000_000


def test_half_precision_is_counted_too() -> None:
    assert count(nn.Linear(3, 2).to(torch.bfloat16), (3,)) == Count(params=8, macs=6)


def test_batch_norm_over_one_position_is_no_obstacle() -> None:
    # In training mode batch norm refuses one value per channel; counting asks for no second picture.
    assert count(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)), (2, 1, 1)).macs == 4
