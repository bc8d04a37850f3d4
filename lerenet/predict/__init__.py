"""For the inspector on the line: one to five marked examples of a defect, then masks of new images."""

from lerenet.predict.call import predict
from lerenet.predict.names import output_names
from lerenet.predict.opening import open_model
from lerenet.predict.results import Prediction, Predictions
from lerenet.predict.supports import Pair
from lerenet.predict.work import Stopped

__all__ = ["Pair", "Prediction", "Predictions", "Stopped", "open_model", "output_names", "predict"]
