"""Numbers about predictions: NumPy in, numbers out."""

from neocog.metrics.classification import (
    PerClass,
    Reliability,
    balanced_accuracy,
    confusion_matrix,
    macro_f1,
    most_confused,
    negative_log_likelihood,
    per_class,
    reliability,
    top_k,
)
from neocog.metrics.interval import bootstrap_interval

__all__ = [
    "PerClass",
    "Reliability",
    "balanced_accuracy",
    "bootstrap_interval",
    "confusion_matrix",
    "macro_f1",
    "most_confused",
    "negative_log_likelihood",
    "per_class",
    "reliability",
    "top_k",
]
