"""A run's report: plain data in, one self-contained HTML page out."""

from neocog.report.model import (
    ClassCount,
    ConfusedPair,
    DataFacts,
    Epoch,
    Evaluation,
    Mistake,
    NetworkFacts,
    Picture,
    Report,
    Scores,
    Setting,
    Stage,
    TrainingFacts,
)
from neocog.report.page import render

__all__ = [
    "ClassCount",
    "ConfusedPair",
    "DataFacts",
    "Epoch",
    "Evaluation",
    "Mistake",
    "NetworkFacts",
    "Picture",
    "Report",
    "Scores",
    "Setting",
    "Stage",
    "TrainingFacts",
    "render",
]
