"""Growing: go on with a deeper network that begins as the trained one, answer for answer.

What is there is copied, block by block. What is new stands at the end of its stage and begins as the identity, so
that nothing is lost, and the extra depth has only to learn what improves on it. A block becomes the identity by
its kind:

    Residual           ReLU(body(x) + x)    zeros in the norm that ends the body
    InvertedResidual   x + body(x)          zeros in the norm that ends the body
    PreactResidual     body(y) + x          zeros in the convolution that ends the body: in the norm in front of the
                                            last ReLU they would stop the gradient for good
    layer scale        x + scale * f(x)     zeros in the scale
    a plain chain      conv, norm, ReLU     convolutions with Dirac's kernel, norms that undo themselves; behind a
                                            ReLU, which leaves alone what another ReLU has bent already

Papers: Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer", ICLR 2016,
arXiv:1511.05641 (Net2DeeperNet, the chains); Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in
1 Hour", 2017, arXiv:1706.02677, section 5.1 (zeros in the last norm).
Differs from Net2Net: it measures the statistics of the chains' new norms on training pictures; here they follow from
the norm in front of them, and no picture is needed.
"""

import math

import torch
from torch import Tensor, nn

from neocog.core.contracts import Network
from neocog.core.errors import UsageError
from neocog.layers.drop_path import DropPath
from neocog.layers.dropout import Dropout
from neocog.layers.inverted_residual import InvertedResidual
from neocog.layers.preactivation import PreactResidual
from neocog.layers.residual import Residual

# Of these the rate, which often rises with depth, is no part of the function in eval mode.
ONLY_IN_TRAINING = (DropPath, Dropout, nn.Dropout)
BITS = 4  # behind the leading one of a neutral norm's weight

Pair = tuple[nn.Module, nn.Module]  # from, to
Extra = tuple[str, nn.Module, nn.Module]  # name, new block, the last copied block in front of it


@torch.no_grad()
def grow(small: Network, large: Network) -> list[str]:
    """Fills `large`, freshly built, so that in eval mode it answers as `small` does; returns what was added to
    which stage.

    On a CPU the answers in float32 are equal bit for bit; where convolutions are computed through transforms or in
    lower precision, to rounding. Dropout aside they are equal in training mode, too, but for the chains with batch
    norm, where they are near. UsageError, naming the block, where the two differ in more than blocks at the ends of
    stages, where nothing is to be added, or where a new block cannot be made the identity; `large` is then in no
    state to be used. Works without memory (device "meta") for those who only want to know whether it would.
    """
    copies, extras, notes = _match(small, large)
    if not extras:
        raise UsageError("both have the same blocks, so there is nothing to add")
    for name, block, before in extras:
        _make_identity(name, block, before)
    for old, new in copies:
        new.load_state_dict(old.state_dict())
    return notes


def _match(small: Network, large: Network) -> tuple[list[Pair], list[Extra], list[str]]:
    """What is copied, what is new, and notes of it. UsageError at the first difference."""
    copies: list[Pair] = []
    extras: list[Extra] = []
    notes: list[str] = []
    for part, old_part, new_part in _children("", small, large):
        if part != "stages":
            copies.append(_alike(part, old_part, new_part))
            continue
        for name, old, new in _children(part, old_part, new_part):
            if type(old) is not nn.Sequential or type(new) is not nn.Sequential:
                copies.append(_alike(name, old, new))
                continue
            had = len(old)
            if had > len(new):
                raise UsageError(f"{name} has {had} parts already, and would have {len(new)}")
            copies += [_alike(*child) for child in _children(name, old, new[:had])]
            added = list(new.named_children())[had:]
            extras += [(f"{name}.{child}", block, old[-1]) for child, block in added]
            if added:
                alike = sum(type(block) is type(added[0][1]) for block in new)  # a pool is no block
                notes.append(f"{name}: {len(added)} of {alike} blocks {'is' if len(added) == 1 else 'are'} new")
    return copies, extras, notes


def _children(name: str, old: nn.Module, new: nn.Module) -> list[tuple[str, nn.Module, nn.Module]]:
    """(dotted name, child, child) of two modules, which must call their children alike."""
    theirs, ours = dict(old.named_children()), dict(new.named_children())
    if list(theirs) != list(ours):
        where = name or "the network"
        raise UsageError(f"the parts of {where} are {_some(theirs)}, and would be {_some(ours)}")
    return [(f"{name}.{child}".lstrip("."), theirs[child], ours[child]) for child in theirs]


def _some(names: dict[str, nn.Module]) -> str:
    shown = ", ".join(list(names)[:3])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 3 else shown


def _alike(name: str, old: nn.Module, new: nn.Module) -> Pair:
    """The two. UsageError, naming the first layer that differs, where they are not the same function of the same
    weights."""
    theirs, ours = dict(old.named_modules()), dict(new.named_modules())
    for path in theirs | ours:
        had, wanted = theirs.get(path), ours.get(path)
        if type(had) is not type(wanted) or _describe(had) != _describe(wanted):
            where = f"{name}.{path}".rstrip(".")
            raise UsageError(f"{where} is {_describe(had)}, and would be {_describe(wanted)}")
    return old, new


def _describe(module: nn.Module | None) -> str:
    """Its class, its options and the shapes of the tensors that are its own."""
    if module is None:
        return "nothing"
    kind = type(module).__name__
    if isinstance(module, ONLY_IN_TRAINING):
        return kind
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    shapes = ", ".join(f"{key}: {' x '.join(str(n) for n in tensor.shape)}" for key, tensor in own)
    said = module.extra_repr() or shapes
    return f"{kind}({said})" if said else kind


def _make_identity(name: str, block: nn.Module, before: nn.Module) -> None:
    """Changes the weights of `block`, which gets what comes out of `before`, so that it changes nothing."""
    if (branch := _branch_of(block, before)) is not None:
        _silence(name, branch)
    elif isinstance(scale := getattr(block, "scale", None), nn.Parameter) and _has_droppable_branch(block):
        scale.zero_()
    elif isinstance(block, nn.Sequential):
        _pass_through(name, block, before)
    else:
        raise _stubborn(name, block)


def _branch_of(block: nn.Module, before: nn.Module) -> nn.Module | None:
    """What a residual block adds to its input, where it leaves the input and the sum as they are."""
    match block:
        case Residual(shortcut=nn.Identity()) if not _rectifies(before):
            return None  # its ReLU would bend the sum
        case Residual(shortcut=nn.Identity()) | PreactResidual(shortcut=None) | InvertedResidual(residual=True):
            return block.body
    return None


def _has_droppable_branch(block: nn.Module) -> bool:
    """A branch that may be left out for some pictures stands beside a shortcut."""
    return any(isinstance(child, DropPath) for child in block.children())


def _rectifies(block: nn.Module) -> bool:
    """Whether what comes out of it is never negative."""
    return isinstance(block, Residual) or isinstance(_leaves(block)[-1], nn.ReLU)


def _leaves(module: nn.Module) -> list[nn.Module]:
    """The layers of nested Sequentials, in the order in which they work."""
    if not isinstance(module, nn.Sequential):
        return [module]
    return [leaf for child in module for leaf in _leaves(child)]


def _silence(name: str, body: nn.Module) -> None:
    """Zeros in the last layer, which learns from the first step on; those in front of it from the second."""
    last = _leaves(body)[-1]
    if not isinstance(last, nn.BatchNorm2d | nn.Conv2d):
        raise _stubborn(name, last)
    for parameter in last.parameters():
        parameter.zero_()


def _pass_through(name: str, chain: nn.Sequential, before: nn.Module) -> None:
    """Makes every layer of a chain the identity by itself."""
    for leaf in _leaves(chain):
        if isinstance(leaf, nn.Conv2d) and _keeps_shape(leaf):
            nn.init.dirac_(leaf.weight, leaf.groups)
            if leaf.bias is not None:
                leaf.bias.zero_()
        elif isinstance(leaf, nn.BatchNorm2d) and (norm := _norm_before_relu(before)) is not None:
            _neutralise(leaf, *rectified_moments(norm.bias.double(), norm.weight.double().abs()))
        elif not (isinstance(leaf, nn.ReLU) and _rectifies(before)):
            raise _stubborn(name, leaf)


def _keeps_shape(conv: nn.Conv2d) -> bool:
    sizes = zip(conv.kernel_size, conv.dilation, conv.padding, strict=True)
    centred = all(kernel % 2 == 1 and padding == dilation * (kernel // 2) for kernel, dilation, padding in sizes)
    return centred and conv.stride == (1, 1) and conv.in_channels == conv.out_channels


def _norm_before_relu(block: nn.Module) -> nn.BatchNorm2d | None:
    match _leaves(block)[-2:]:
        case [nn.BatchNorm2d() as norm, nn.ReLU()]:
            return norm
    return None


def _neutralise(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """A norm that gives back what comes in, where that has the given mean and variance per channel (C,).

    In eval mode PyTorch multiplies by weight / sqrt(variance + eps) and adds the rest. A weight of few bits times
    its own float32 reciprocal is exactly 1, so that nothing is rounded; it is up to 3 % off the deviation, and
    that is how near the identity the norm is in training mode, where the batch decides.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    # Channels that are never active would ask for less than eps leaves.
    deviation = (variance.clamp(min=norm.eps) + norm.eps).sqrt()
    unit = torch.exp2(deviation.log2().floor() - BITS)
    weight = (deviation / unit).round() * unit
    norm.weight.copy_(weight)
    norm.running_var.copy_(weight**2 - norm.eps)
    norm.bias.copy_(mean)
    norm.running_mean.copy_(mean)


def rectified_moments(mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of max(x, 0) for normal x: what a batch norm with bias `mean` and weight +-`deviation` and
    a ReLU let through. All of one shape, in double precision."""
    deviation = deviation.clamp(min=1e-12)
    z = mean / deviation
    below = torch.special.ndtr(z)  # the share of x above 0
    density = torch.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    first = mean * below + deviation * density
    second = (mean**2 + deviation**2) * below + mean * deviation * density
    return first, (second - first**2).clamp(min=0)


def _stubborn(name: str, module: nn.Module) -> UsageError:
    return UsageError(f"{name} would be new, and {_describe(module)} cannot be made the identity there")
