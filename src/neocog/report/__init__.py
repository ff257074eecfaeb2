"""A run's report and a network's costs: plain data in, one self-contained HTML page out."""

from neocog.report.audit import AuditFinding, AuditPage, AuditPicture, render_audit
from neocog.report.cost_model import CostNetwork, CostPage, CostRow, CostTraining, ZooPoint
from neocog.report.cost_page import render_cost
from neocog.report.cost_pictures import bars_picture, zoo_picture
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
    "AuditFinding",
    "AuditPage",
    "AuditPicture",
    "ClassCount",
    "ConfusedPair",
    "CostNetwork",
    "CostPage",
    "CostRow",
    "CostTraining",
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
    "ZooPoint",
    "bars_picture",
    "render",
    "render_audit",
    "render_cost",
    "zoo_picture",
]
