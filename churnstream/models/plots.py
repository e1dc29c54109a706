"""Pictures of a trained model, for people."""

import numpy as np
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from churnstream.models.training import Trained

BLUE, GREY, ORANGE = "#2a6f97", "#9aa5b1", "#d1495b"
SHOWN_FEATURES = 13


def draw(trained: Trained) -> dict[str, Figure]:
    """name -> figure: ROC, precision and recall, calibration, and the features that matter most (share of the gain)."""
    return {
        "roc": _roc(trained),
        "precision-recall": _precision_recall(trained),
        "calibration": _calibration(trained),
        "importance": _importance(trained),
    }


def _axes(title: str, x: str, y: str, height: float = 4.0):  # type: ignore[no-untyped-def]
    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _roc(trained: Trained) -> Figure:
    figure, axes = _axes("Who leaves is ranked first", "share of stayers flagged", "share of churners found")
    wrong, right, _ = roc_curve(trained.label, trained.probability)
    axes.plot(wrong, right, color=BLUE, label=f"AUC {trained.metrics['auc']:.3f}")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _precision_recall(trained: Trained) -> Figure:
    figure, axes = _axes("How many flagged customers do leave", "recall", "precision")
    precision, recall, _ = precision_recall_curve(trained.label, trained.probability)
    axes.plot(recall, precision, color=BLUE)
    axes.axhline(trained.metrics["churn_rate"], color=GREY, linestyle=":")
    axes.set_ylim(0, 1.02)
    return figure


def _calibration(trained: Trained) -> Figure:
    figure, axes = _axes("Do probabilities mean what they say?", "predicted probability", "observed share of churners")
    edges = np.unique(np.quantile(trained.probability, np.linspace(0, 1, 11)))
    bins = np.digitize(trained.probability, edges[1:-1])
    points = [(trained.probability[bins == each].mean(), trained.label[bins == each].mean()) for each in np.unique(bins)]
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(*zip(*points, strict=True), color=BLUE, marker="o")
    return figure


def _importance(trained: Trained) -> Figure:
    top = trained.importance.head(SHOWN_FEATURES)[::-1]
    figure, axes = _axes("What the model looks at", "share of the gain", "", height=0.9 + 0.28 * len(top))
    axes.barh(top.index, top / max(trained.importance.sum(), 1e-12), color=BLUE)
    return figure
