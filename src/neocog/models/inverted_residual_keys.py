"""How torchvision and timm name the tensors of an inverted residual block, for the networks built of them."""


def torchvision_rules(theirs: str, ours: str, expands: bool, squeezes: bool) -> list[tuple[str, str]]:
    """Rules for one block: torchvision numbers the layers that are there."""
    parts = ["expand"] * expands + ["depthwise"] + ["squeeze_excite"] * squeezes + ["project"]
    rules = []
    for number, part in enumerate(parts):
        names = {"fc1": "reduce", "fc2": "expand"} if part == "squeeze_excite" else {"0": "conv", "1": "norm"}
        for their, our in names.items():
            rules.append((rf"{theirs}\.block\.{number}\.{their}\.", f"{ours}.body.{part}.{our}."))
    return rules


def timm_rules(theirs: str, ours: str, expands: bool) -> list[tuple[str, str]]:
    """Rules for one block: timm numbers the norms that are there, and calls the last convolution another
    name where nothing is expanded."""
    parts = [("conv_pw", "expand")] * expands + [("conv_dw", "depthwise")]
    parts.append(("conv_pwl" if expands else "conv_pw", "project"))
    rules = [
        (rf"{theirs}\.se\.conv_reduce\.", f"{ours}.body.squeeze_excite.reduce."),
        (rf"{theirs}\.se\.conv_expand\.", f"{ours}.body.squeeze_excite.expand."),
    ]
    for number, (conv, part) in enumerate(parts, start=1):
        rules.append((rf"{theirs}\.{conv}\.", f"{ours}.body.{part}.conv."))
        rules.append((rf"{theirs}\.bn{number}\.", f"{ours}.body.{part}.norm."))
    return rules
