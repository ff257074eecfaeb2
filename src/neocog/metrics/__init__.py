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
from neocog.metrics.paired import Paired, mcnemar, verdict
from neocog.metrics.transferability import h_score, log_me

__all__ = [
    "Paired",
    "PerClass",
    "Reliability",
    "balanced_accuracy",
    "bootstrap_interval",
    "confusion_matrix",
    "h_score",
    "log_me",
    "macro_f1",
    "mcnemar",
    "most_confused",
    "negative_log_likelihood",
    "per_class",
    "reliability",
    "top_k",
    "verdict",
]
