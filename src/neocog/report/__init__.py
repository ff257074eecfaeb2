"""A run's report and a network's costs: plain data in, one self-contained HTML page out."""

from neocog.report.audit import AuditFinding, AuditPage, AuditPicture, render_audit
from neocog.report.cost_model import CostNetwork, CostPage, CostRow, CostTraining, ZooPoint
from neocog.report.cost_page import render_cost
from neocog.report.cost_pictures import bars_picture, zoo_picture
from neocog.report.model import (
    Choices,
    ClassCount,
    ConfusedPair,
    DataFacts,
    Epoch,
    Evaluation,
    GivenBack,
    Mistake,
    NetworkFacts,
    Pair,
    Path,
    Picture,
    RateSearch,
    ReconstructionFacts,
    Report,
    Scatter,
    Scores,
    Setting,
    Stage,
    TrainingFacts,
)
from neocog.report.page import render
from neocog.report.pareto import ParetoPoint, pareto

__all__ = [
    "AuditFinding",
    "AuditPage",
    "AuditPicture",
    "Choices",
    "ClassCount",
    "ConfusedPair",
    "CostNetwork",
    "CostPage",
    "CostRow",
    "CostTraining",
    "DataFacts",
    "Epoch",
    "Evaluation",
    "GivenBack",
    "Mistake",
    "NetworkFacts",
    "Pair",
    "ParetoPoint",
    "Path",
    "Picture",
    "RateSearch",
    "ReconstructionFacts",
    "Report",
    "Scatter",
    "Scores",
    "Setting",
    "Stage",
    "TrainingFacts",
    "ZooPoint",
    "bars_picture",
    "pareto",
    "render",
    "render_audit",
    "render_cost",
    "zoo_picture",
]
