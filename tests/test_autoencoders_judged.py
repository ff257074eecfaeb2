"""The parts of autoencoders against judges: scikit-image, torch.distributions, sorting, integration, enumeration."""

import itertools
import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor, nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from neocog.core.autoencoder import Coded, Reconstruction
from neocog.layers.boltzmann import Boltzmann
from neocog.layers.codes import GaussianCode, KeepHighest, QuantisedCode
from neocog.metrics.bound import bounds
from neocog.metrics.similarity import psnr, ssim
from neocog.tasks.reconstruction import Reconstruct, bernoulli_divergence, distance, divergence, slope


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (17, 23), (11, 40)])
def test_similarity_is_that_of_scikit_image(height: int, width: int) -> None:
    a = draw(3, 3, height, width)
    b = (a + 0.2 * draw(3, 3, height, width, seed=1)).clamp(0, 1)
    for i in range(3):
        x, y = a[i].double().numpy(), b[i].double().numpy()
        wanted = structural_similarity(
            x, y, data_range=1, channel_axis=0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        assert float(ssim(a[i : i + 1].double(), b[i : i + 1].double())) == pytest.approx(wanted, abs=1e-7)
        assert float(psnr(a[i : i + 1], b[i : i + 1])) == pytest.approx(
            peak_signal_noise_ratio(x, y, data_range=1), 1e-6
        )


def test_a_picture_is_like_itself() -> None:
    for size in ((20, 20), (7, 9), (1, 2)):  # the window shrinks with the picture
        a = draw(2, 1, *size)
        assert ssim(a, a).tolist() == pytest.approx([1, 1])
    assert psnr(a, a).isinf().all()


@pytest.mark.parametrize("shape", [(6, 20), (4, 3, 5, 5)])
def test_the_highest_are_those_of_a_sort(shape: tuple[int, ...]) -> None:
    code = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    kept = KeepHighest(7)(code)
    assert kept.shape == code.shape
    for before, after in zip(code.flatten(1).tolist(), kept.flatten(1).tolist(), strict=True):
        limit = sorted(before)[-7]
        assert after == [value if value >= limit else 0.0 for value in before]


def test_of_equal_activations_no_more_than_k_stay() -> None:
    assert KeepHighest(2)(torch.ones(3, 5)).sum(1).tolist() == [2, 2, 2]


def test_divergence_is_that_of_torch() -> None:
    mean, log_variance = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    wanted = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1)).sum(1)
    assert torch.allclose(divergence(mean, log_variance), wanted, rtol=1e-5)
    activation = draw(40)
    assert torch.allclose(
        bernoulli_divergence(0.05, activation), kl_divergence(Bernoulli(torch.tensor(0.05)), Bernoulli(activation)),
        rtol=1e-4,
    )  # fmt: skip


def decoder(code: Tensor) -> Tensor:
    """(B, 1) -> (B, 1, 1, 3) logits."""
    return torch.stack([2 * code[:, 0], 1 - code[:, 0] ** 2, 0.5 * code[:, 0]], 1)[:, None, None]


def exact(picture: Tensor) -> float:
    """-log p(picture) of `decoder` with the prior N(0, 1), by integration."""
    z = torch.linspace(-10, 10, 200_001, dtype=torch.float64)[:, None]
    log_p = Bernoulli(logits=decoder(z)).log_prob(picture.double()).sum((1, 2, 3)) + Normal(0.0, 1.0).log_prob(z[:, 0])
    return -float(log_p.logsumexp(0) + math.log(20 / 200_000))


def test_bounds_lie_above_the_truth_and_reach_it() -> None:
    pictures = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1]]).view(3, 1, 1, 3)
    mean, log_variance = torch.tensor([[0.5], [-0.8], [0.3]]), torch.tensor([[-0.5], [0.2], [0.0]])
    truth = torch.tensor([exact(picture[None]) for picture in pictures])
    generator = torch.Generator().manual_seed(0)
    found = bounds(decoder, pictures, mean, log_variance, 20_000, generator)
    assert (found.plain > truth + 0.01).all()
    assert torch.allclose(found.tighter, truth, atol=0.02)
    few = bounds(decoder, pictures, mean, log_variance, 5, torch.Generator().manual_seed(0))
    assert (few.tighter <= few.plain + 1e-6).all()


def test_the_bound_is_a_slow_estimate_in_numpy() -> None:
    """With the same draws, term by term."""
    pictures = draw(4, 1, 1, 3).round()
    mean, log_variance = torch.tensor([[0.1], [0.2], [-1.0], [2.0]]), torch.tensor([[0.0], [-1.0], [0.5], [0.3]])
    found = bounds(decoder, pictures, mean, log_variance, 6, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    weights = np.zeros((6, 4))
    for k in range(6):
        noise = torch.randn(4, 1, generator=generator).double().numpy()[:, 0]
        for i in range(4):
            m, s = float(mean[i]), math.exp(0.5 * float(log_variance[i]))
            z = m + s * noise[i]
            logits = decoder(torch.tensor([[z]], dtype=torch.float64)).numpy().ravel()
            p = 1 / (1 + np.exp(-logits))
            x = pictures[i].numpy().ravel()
            log_x = float(np.log(np.where(x == 1, p, 1 - p)).sum())
            log_prior = -0.5 * z**2 - 0.5 * math.log(2 * math.pi)
            log_q = -0.5 * ((z - m) / s) ** 2 - math.log(s) - 0.5 * math.log(2 * math.pi)
            weights[k, i] = log_x + log_prior - log_q
    assert found.plain.numpy() == pytest.approx(-weights.mean(0), rel=1e-5)
    assert found.tighter.numpy() == pytest.approx(-np.log(np.exp(weights).mean(0)), rel=1e-5)


def test_a_sample_has_the_mean_and_the_variance_it_was_drawn_with() -> None:
    code = GaussianCode(nn.Identity()).train()
    features = torch.tensor([[1.0, -2.0, 0.0, math.log(4)]]).repeat(40_000, 1)
    torch.manual_seed(0)
    drawn = code(features).code
    assert drawn.mean(0).tolist() == pytest.approx([1, -2], abs=0.03)
    assert drawn.std(0).tolist() == pytest.approx([1, 2], rel=0.02)
    assert code.eval()(features).code[0].tolist() == [1, -2]


def test_the_slope_is_the_norm_of_the_jacobian() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(9, 4), nn.Sigmoid())
    images = draw(2, 1, 3, 3).requires_grad_()
    exact = [torch.autograd.functional.jacobian(encoder, image[None]).square().sum() for image in images]
    estimates = [float(slope(encoder(images), images).detach()) for _ in range(3000)]
    assert np.mean(estimates) == pytest.approx(float(torch.stack(exact).mean()), rel=0.03)


def test_a_quantised_code_is_the_nearest_of_the_book() -> None:
    torch.manual_seed(0)
    code = QuantisedCode(nn.Identity(), 3, 10)
    nn.init.normal_(code.book)
    maps = torch.randn(2, 3, 4, 5, requires_grad=True)
    coded = code(maps)
    distances = (maps.detach().permute(0, 2, 3, 1)[..., None, :] - code.book.detach()).norm(dim=-1)
    nearest = code.book.detach()[distances.argmin(-1)].permute(0, 3, 1, 2)
    assert torch.allclose(coded.code, nearest, atol=1e-6)
    gap = (maps.detach() - nearest).square().mean()
    assert coded.penalty is not None
    assert float(coded.penalty.detach()) == pytest.approx(1.25 * float(gap), rel=1e-5)
    weight = torch.randn(2, 3, 4, 5)
    (passed,) = torch.autograd.grad((coded.code * weight).sum(), maps)
    assert torch.equal(passed, weight)  # as if there were no choice


# --- Boltzmann machines ---


def tiny(linear: bool = False) -> Boltzmann:
    torch.manual_seed(1)
    machine = Boltzmann(4, 3, linear).double()
    for parameter in machine.parameters():
        nn.init.normal_(parameter, std=0.5 if linear else 0.8)
    return machine


def all_states(units: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=units)), dtype=torch.float64)


def energies(machine: Boltzmann, seen: Tensor) -> Tensor:
    """(2^V or N, 2^H): E(v, h) as the definition has it."""
    hidden = all_states(3)
    return -(seen @ machine.visible)[:, None] - hidden @ machine.hidden - seen @ machine.weight.T @ hidden.T


def test_free_energy_sums_over_the_hidden_units() -> None:
    machine = tiny()
    seen = all_states(4)
    assert torch.allclose(machine.free_energy(seen), -(-energies(machine, seen)).logsumexp(1))


def test_free_energy_integrates_over_hidden_numbers() -> None:
    """p(v, h) ~ exp(visible . v + h . (hidden + W v) - h . h / 2), each number h on a fine grid."""
    machine = tiny(linear=True)
    seen = all_states(4)
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    exponents = machine.up(seen)[..., None] * grid - 0.5 * grid.square()
    integrals = (exponents.logsumexp(-1) + (grid[1] - grid[0]).log()).sum(1)
    constant = 3 * 0.5 * math.log(2 * math.pi)
    assert torch.allclose(machine.free_energy(seen), -(seen @ machine.visible) - integrals + constant, atol=1e-9)


def test_the_gradient_is_that_of_the_likelihood() -> None:
    """What contrastive divergence estimates, with all states in the place of samples, against -log p enumerated."""
    machine, pictures = tiny(), all_states(4)[[3, 5, 5, 14]]
    log_z = (-energies(machine, all_states(4))).flatten().logsumexp(0)
    exact = (-(-energies(machine, pictures)).logsumexp(1) + log_z).mean()
    wanted = torch.autograd.grad(exact, list(machine.parameters()))
    free = machine.free_energy(all_states(4))
    p = (-free).softmax(0).detach()
    estimate = machine.free_energy(pictures).mean() - p @ free
    found = torch.autograd.grad(estimate, list(machine.parameters()))
    for a, b in zip(found, wanted, strict=True):
        assert torch.allclose(a, b, atol=1e-12)


@pytest.mark.parametrize("linear", [False, True])
def test_gibbs_sampling_reaches_the_distribution(linear: bool) -> None:
    machine = tiny(linear)
    truth = (-machine.free_energy(all_states(4))).softmax(0)
    torch.manual_seed(0)
    samples = machine.gibbs(torch.zeros(40_000, 4, dtype=torch.float64), 30)
    numbers = (samples @ torch.tensor([8.0, 4, 2, 1], dtype=torch.float64)).long()
    shares = torch.bincount(numbers, minlength=16) / len(numbers)
    assert (shares - truth).abs().max() < 0.01
    assert truth.max() > 0.1  # there is something to tell apart


# --- the task ---


def given(logits: Tensor, **coded: Tensor) -> nn.Module:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Reconstruction:
            code = coded.get("code", torch.zeros(len(images), 2))
            return Reconstruction(logits, Coded(**{"code": code} | coded))

    return Fixed()


class Pictures:
    def __init__(self, targets: Tensor) -> None:
        self.images = self.targets = targets
        self.indices = torch.arange(len(targets))


@pytest.mark.parametrize("kind", ["squared", "absolute", "cross_entropy", "ssim"])
def test_every_distance_is_least_at_the_picture(kind: str) -> None:
    targets = draw(4, 1, 12, 12).clamp(0.01, 0.99)
    right = distance(targets.logit(), targets, kind)  # type: ignore[arg-type]
    wrong = distance(targets.logit() + 0.5 * torch.randn_like(targets), targets, kind)  # type: ignore[arg-type]
    assert right < wrong
    if kind != "cross_entropy":
        assert float(right) == pytest.approx(0, abs=1e-5)


def test_the_parts_add_up_to_the_negative_bound() -> None:
    targets, logits = draw(5, 1, 6, 6), torch.randn(5, 1, 6, 6)
    mean, log_variance = torch.randn(2, 5, 3)
    step = Reconstruct("cross_entropy").step(given(logits, mean=mean, log_variance=log_variance), Pictures(targets))
    assert set(step.parts) == {"cross_entropy", "divergence"}
    assert torch.allclose(step.loss, torch.stack(list(step.parts.values())).sum())
    crossed = -Bernoulli(logits=logits, validate_args=False).log_prob(targets).sum((1, 2, 3))
    wanted = (crossed + kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0, 1)).sum(1)).mean()
    assert float(step.loss) * 36 == pytest.approx(float(wanted), rel=1e-5)


def test_the_divergence_is_annealed() -> None:
    task = Reconstruct("cross_entropy", beta=4, annealed=0.5)
    weights = []
    for progress in (0, 0.25, 0.5, 1):
        task.schedule(progress)
        weights.append(task.now)
    assert weights == [0, 2, 4, 4]


def test_sparsity_is_added() -> None:
    code = torch.tensor([[0.5, -0.5], [0.1, 0.1]])
    targets = draw(2, 1, 4, 4)
    network = given(targets.logit(), code=code)
    found = Reconstruct(sparse=("l1", 2.0)).step(network, Pictures(targets)).parts["sparsity"]
    assert float(found) == pytest.approx(2 * 0.3)
    network = given(targets.logit(), code=code.abs())
    found = Reconstruct(sparse=("kl", 0.3)).step(network, Pictures(targets)).parts["sparsity"]
    assert float(found) == pytest.approx(0.0, abs=1e-6)  # both units are on 0.3 of the time


def test_the_adversarial_step_makes_it_worse_by_no_more_than_it_may() -> None:
    torch.manual_seed(0)

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.map = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: Tensor) -> Reconstruction:
            return Reconstruction(self.map(x), Coded(x))

    network, targets = Net(), draw(3, 1, 8, 8)
    task = Reconstruct(adversarial=0.1, std=torch.tensor([0.5]))
    worse = task.worsened(network, targets, targets)
    assert float((worse - targets).abs().max()) == pytest.approx(0.2)  # 0.1 of 0..1, in inputs divided by 0.5
    before = distance(network(targets).logits, targets, "squared")
    assert distance(network(worse).logits, targets, "squared") > before
