"""Another head on any network of the zoo: it answers, it stands where the line is, its fit is that of scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import LinearSVC
from torch import Tensor, nn

from draw import drawn, pictures, small_shape, spread
from neocog.core.contracts import Network
from neocog.core.errors import DataError, UsageError
from neocog.core.head import HeadSpec
from neocog.core.registry import lookup, names
from neocog.layers.similarity import Neighbours, Prototypes
from neocog.transfer.closed import PENALTIES, evenly, fit_neighbours, fit_prototypes, fit_svm
from neocog.transfer.evidence import Depths, cross_validated
from neocog.transfer.heads import Backbone, attach, tail_of, width_of
from neocog.transfer.regimes import classifier_of

KINDS = {
    "linear": HeadSpec(),
    "mlp": HeadSpec(kind="mlp", hidden=7),
    "prototype": HeadSpec(kind="prototype"),
    "knn": HeadSpec(kind="knn", pictures=6),
}


def planned(name: str) -> tuple[Network, Tensor]:
    """The network on the meta device, and two pictures for it."""
    entry = lookup(name)
    with torch.device("meta"):
        network = entry.build(num_classes=5)
        assert isinstance(network, Network)
        return network.eval(), torch.zeros(2, *entry.spec.input_shape)


@pytest.mark.parametrize("name", [name for name in names("*") if len(lookup(name).spec.input_shape) == 3])
def test_every_network_takes_a_head_at_its_end_and_after_a_stage(name: str) -> None:
    network, x = planned(name)
    stages = [stage for stage, _ in network.stages.named_children()]
    with torch.device("meta"):
        if width_of(classifier_of(network)):
            attach(network, KINDS["mlp"])
            assert network.eval()(x).shape == (2, 5)
            assert Backbone(network)(x).shape == (2, width_of(classifier_of(network)))
        else:
            with pytest.raises(UsageError, match=f"--stage {stages[-1]}"):
                attach(network, KINDS["mlp"])
        for stage in stages[:1]:
            attach(network, HeadSpec(stage=stage))
            assert network.eval()(x).shape == (2, 5)
            assert list(dict(network.stages.named_children())) == [stage]


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_at_every_stage(kind: str) -> None:
    for stage in (None, "stage2", "stage5"):
        network, x = planned("mobilenet_v1")
        with torch.device("meta"):
            attach(network, KINDS[kind].model_copy(update={"stage": stage}))
            assert network.eval()(x).shape == (2, 5)
            assert Backbone(network)(x).shape == (2, width_of(classifier_of(network)))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "squeezenet1_1", "densenet121", "alexnet", "googlenet"])
def test_the_line_cuts_the_network_without_a_rest(name: str) -> None:
    """Backbone, then tail, is the network, to the last bit; their modules are the network's own."""
    network = drawn(name, num_classes=5)
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        expected = network(x)
        found = tail_of(network)(Backbone(network)(x))
    assert spread(expected) > 0.01
    assert torch.equal(found, expected)
    assert classifier_of(network) in list(tail_of(network).modules())


def test_a_cut_network_is_the_mean_of_that_stage() -> None:
    network = drawn("resnet18", num_classes=5)
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        maps = network.features(x)[1]
        attach(network, HeadSpec(stage="conv3_x"))
        assert torch.equal(Backbone(network)(x), maps.mean(dim=(2, 3)))
    assert network.stage_channels == (64, 128)
    with pytest.raises(UsageError, match="did you mean conv3_x"):
        attach(network, HeadSpec(stage="conv3x"))
    with pytest.raises(UsageError, match="no stage 'conv5_x'"):  # it was cut off
        attach(network, HeadSpec(stage="conv5_x"))


def test_depths_gives_the_middle_and_the_end_in_one_pass() -> None:
    network = drawn("resnet18", num_classes=5)
    x = pictures(2, small_shape(network))
    with torch.no_grad():
        middle, end = network.features(x)[1].mean(dim=(2, 3)), network.embed(x)
        depths = Depths(network)
        assert torch.equal(depths(x), torch.cat([middle, end], 1))
    assert (depths.width, Depths.stage_of(network)) == (128, "conv3_x")


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training pixels and labels, others to judge by. Class 9 has 20 training pictures."""
    x, y = load_digits(return_X_y=True)
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))  # the writers come one after the other
    x, y = x[order], y[order]
    learn = torch.arange(700)
    rare = learn[y[:700] == 9][20:]
    learn = learn[~torch.isin(learn, rare)]
    return x[learn], y[learn], x[900:], y[900:]


def test_neighbours_vote_as_scikit_learn_s_do(digits: tuple[Tensor, ...]) -> None:
    x, y, others, truth = digits
    head = Neighbours(64, 10, len(x))
    chosen = fit_neighbours(head, x, y, torch.arange(len(x)))
    temperature, doubt = float(head.temperature), float(head.doubt)
    judge = KNeighborsClassifier(
        int(head.count), metric="cosine", weights=lambda far: np.exp((1 - far) / temperature)
    ).fit(x.numpy(), y.numpy())
    expected = (1 - doubt) * judge.predict_proba(others.numpy()) + doubt / 10
    found = head(others).softmax(1).numpy()
    assert np.abs(found - expected).max() < 1e-4
    assert np.allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == truth.numpy()).mean() > 0.9
    # Left out by hand: the picture itself is not among its neighbours.
    alone = [
        KNeighborsClassifier(int(head.count), metric="cosine", weights=judge.weights)
        .fit(np.delete(x.numpy(), i, 0), np.delete(y.numpy(), i)).predict(x[i : i + 1].numpy())[0] == int(y[i])
        for i in range(40)
    ]  # fmt: skip
    some = torch.nn.functional.normalize(x, dim=1)
    cosines = (some @ some.T).fill_diagonal_(-2)
    assert (head.vote(cosines).argmax(1) == y)[:40].tolist() == alone
    assert chosen.accuracy == pytest.approx((head.vote(cosines).argmax(1) == y).float().mean().item())


def test_prototypes_are_the_means_and_are_judged_without_the_picture_itself(digits: tuple[Tensor, ...]) -> None:
    x, y, others, truth = digits
    head = Prototypes(64, 10)
    chosen = fit_prototypes(head, x, y, torch.arange(len(x)))
    unit = x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)
    means = np.stack([unit[y.numpy() == k].mean(0) for k in range(10)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    wanted = others.numpy() / np.linalg.norm(others.numpy(), axis=1, keepdims=True) @ means.T
    assert np.abs(head(others).numpy() / float(head.scale) - wanted).max() < 1e-5
    right = []
    for i in range(len(x)):
        own = unit[(y.numpy() == int(y[i])) & (np.arange(len(x)) != i)].mean(0)
        scores = unit[i] @ means.T
        scores[int(y[i])] = unit[i] @ own / np.linalg.norm(own)
        right.append(scores.argmax() == int(y[i]))
    assert chosen.accuracy == pytest.approx(np.mean(right))
    assert (head(others).argmax(1) == truth).float().mean() > 0.8
    nearby = [torch.nn.functional.cross_entropy(head(others) * factor, truth).item() for factor in (0.1, 1, 10)]
    assert nearby[1] == min(nearby)  # the scale is worth something on pictures that it has not seen


def test_one_picture_of_a_class_is_enough_for_a_prototype_and_none_is_not() -> None:
    x, y = torch.eye(4), torch.tensor([0, 0, 1, 2])
    head = Prototypes(4, 3)
    fit_prototypes(head, x, y, torch.arange(4))
    assert head(x).argmax(1).tolist() == [0, 0, 1, 2]
    with pytest.raises(DataError, match="class number 1"):
        fit_prototypes(head, x, torch.tensor([0, 0, 2, 2]), torch.arange(4))


def test_the_svm_is_scikit_learn_s_folded_into_one_layer(digits: tuple[Tensor, ...]) -> None:
    x, y, others, truth = digits
    head = nn.Linear(64, 10)
    chosen = fit_svm(head, x, y, torch.arange(len(x)), 0)
    penalty = min(PENALTIES, key=lambda one: abs(one - float(chosen.words.split()[2].rstrip(","))))
    mean, std = x.double().numpy().mean(0), np.maximum(x.double().numpy().std(0), 1e-6)
    judge = LinearSVC(C=penalty, dual="auto", random_state=0).fit((x.numpy() - mean) / std, y.numpy())
    margins = judge.decision_function((others.numpy() - mean) / std)
    found = head(others).detach().numpy()
    scale = found.std() / margins.std()
    assert np.abs(found - scale * margins).max() < 1e-3 * np.abs(found).max()
    assert abs((found.argmax(1) == truth.numpy()).mean() - chosen.accuracy) < 0.06
    loss = [torch.nn.functional.cross_entropy(head(others) * factor, truth).item() for factor in (0.1, 1, 10)]
    assert loss[1] == min(loss)


def test_two_classes_and_several_views_of_a_picture() -> None:
    draw = np.random.default_rng(0)
    y = torch.from_numpy(draw.integers(0, 2, 60))
    x = torch.from_numpy(draw.normal(size=(60, 8))).float() + y[:, None]
    head = nn.Linear(8, 2)
    views = torch.cat([x, x + 0.01])
    chosen = fit_svm(head, views, torch.cat([y, y]), torch.arange(60).repeat(2), 0)
    assert (head(x).argmax(1) == y).float().mean() > 0.85
    once = nn.Linear(8, 2)
    # The other view of a picture is no witness: what is judged unseen does not rise with it.
    assert abs(chosen.accuracy - fit_svm(once, x, y, torch.arange(60), 0).accuracy) < 0.05
    with pytest.raises(DataError, match="single training picture"):
        fit_svm(head, x, torch.tensor([1] + [0] * 59), torch.arange(60), 0)


def test_cross_validation_sees_a_signal_and_none_in_noise() -> None:
    draw = np.random.default_rng(0)
    y = np.repeat(np.arange(4), 30)
    noise = draw.normal(size=(120, 50)).astype(np.float32)
    assert cross_validated(noise, y, 0) < 0.4
    assert cross_validated(noise + np.eye(4, 50)[y].astype(np.float32) * 6, y, 0) > 0.95


def test_another_view_of_a_picture_is_no_witness() -> None:
    """Random vectors, random labels, three views of each: nothing can be known of a picture that was not seen."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(150, 16, generator=draw), torch.randint(0, 5, (150,), generator=draw)
    views = torch.cat([x, x + 0.01, x - 0.01])
    labels, rows = y.repeat(3), torch.arange(150).repeat(3)
    assert fit_neighbours(Neighbours(16, 5, 450), views, labels, rows).accuracy < 0.4
    found = fit_prototypes(Prototypes(16, 5), views, labels, rows).accuracy
    assert found == pytest.approx(fit_prototypes(Prototypes(16, 5), x, y, torch.arange(150)).accuracy, abs=0.03)


def test_a_sample_has_as_many_of_every_class() -> None:
    labels = np.repeat([0, 1, 2], [500, 20, 3])
    places = evenly(labels, 60, 0)
    assert len(set(places.tolist())) == 60
    assert np.bincount(labels[places]).tolist() == [37, 20, 3]
    assert sorted(np.bincount(labels[places[:9]]).tolist()) == [3, 3, 3]
    assert sorted(evenly(labels, 10**6, 0).tolist()) == list(range(523))


def test_many_pictures_and_a_rare_class_have_an_svm() -> None:
    draw = np.random.default_rng(0)
    y = np.r_[np.repeat([0, 1], 1010), [2, 2]]
    x = torch.from_numpy(draw.normal(size=(len(y), 4)) + y[:, None]).float()
    assert fit_svm(nn.Linear(4, 3), x, torch.from_numpy(y), torch.arange(len(y)), 0).accuracy > 0.6


def test_a_class_with_one_picture_is_left_out_of_the_cross_validation() -> None:
    draw = np.random.default_rng(0)
    y = np.r_[np.repeat([0, 1], 20), [2]]
    x = draw.normal(size=(41, 5)).astype(np.float32) + 4 * y[:, None].astype(np.float32)
    found = cross_validated(x, y, 0)
    assert found is not None
    assert found > 0.9
    assert cross_validated(x[:2], np.array([0, 1]), 0) is None
