"""The zoo. Importing it registers every network; each file is one family, read from top to bottom."""

from neocog.models import (  # noqa: F401
    alexnet,
    lenet,
    mlp,
    mnist,
    mobilenet_v2,
    perceptron,
    resnet,
    squeezenet,
    vgg,
)
