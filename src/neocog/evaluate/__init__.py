"""What came out: predictions as a file, and every number that follows from them."""

from neocog.evaluate.predictions import Predictions
from neocog.evaluate.run import Outcome, evaluating, predict, probabilities_of, stream
from neocog.evaluate.summary import summarise

__all__ = ["Outcome", "Predictions", "evaluating", "predict", "probabilities_of", "stream", "summarise"]
