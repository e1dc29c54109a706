"""Pictures of a trained model, for people."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from churnstream.models.measures import lift_curve, reliability
from churnstream.models.training import Trained

BLUE, GREY, ORANGE = "#2a6f97", "#9aa5b1", "#d1495b"
SHOWN_FEATURES = 13


def draw(trained: Trained) -> dict[str, Figure]:
    """name -> figure: ROC, precision and recall, calibration, lift, and the features that matter most (share of the gain)."""
    return {
        "roc": _roc(trained),
        "precision-recall": _precision_recall(trained),
        "calibration": _calibration(trained),
        "lift": _lift(trained),
        "importance": _importance(trained),
    }


def _axes(title: str, x: str, y: str, height: float = 4.0) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _roc(trained: Trained) -> Figure:
    figure, axes = _axes("Who leaves is ranked first", "share of stayers flagged", "share of churners found")
    wrong, right, _ = roc_curve(trained.label, trained.probability)
    told = trained.metrics
    axes.plot(wrong, right, color=BLUE, label=f"AUC {told['auc']:.3f} ({told['auc_low']:.3f} to {told['auc_high']:.3f})")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.legend(frameon=False, loc="lower right")
    return figure


def _precision_recall(trained: Trained) -> Figure:
    figure, axes = _axes("How many flagged customers do leave, or stay", "recall", "precision")
    sides = (("leave", BLUE, trained.label, trained.probability), ("stay", ORANGE, 1 - trained.label, 1 - trained.probability))
    for name, colour, label, probability in sides:
        precision, recall, _ = precision_recall_curve(label, probability)
        axes.plot(recall[:-1], precision[:-1], color=colour, label=f"those who {name}")
        axes.axhline(label.mean(), color=colour, linestyle=":", linewidth=1)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="center right", title="dotted: chance")
    return figure


def _calibration(trained: Trained) -> Figure:
    figure, axes = _axes("Do probabilities mean what they say?", "predicted probability", "observed share of churners")
    predicted, observed, customers = reliability(trained.label, trained.probability)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="exactly")
    off = 1.96 * np.sqrt(observed * (1 - observed) / customers)
    error = trained.metrics["calibration_error"]
    axes.errorbar(predicted, observed, yerr=off, color=BLUE, marker="o", capsize=2, label=f"a tenth each, error {error:.3f}")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    axes.legend(frameon=False, loc="upper left")
    return figure


def _lift(trained: Trained) -> Figure:
    figure, axes = _axes(
        "How much better than picking at random", "share of customers, highest risk first", "times as many churners"
    )
    shares, lifts = lift_curve(trained.label, trained.probability)
    best = np.minimum(1 / shares, 1 / trained.label.mean())
    axes.plot(shares, best, color=GREY, label="if all were known")
    axes.plot(shares, lifts, color=BLUE, label="this model")
    axes.axhline(1, color=GREY, linestyle=":", label="chance")
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.legend(frameon=False)
    return figure


def _importance(trained: Trained) -> Figure:
    top = trained.importance.head(SHOWN_FEATURES)[::-1]
    figure, axes = _axes("What the model looks at", "share of the gain", "", height=0.9 + 0.28 * len(top))
    axes.barh(top.index, top / max(trained.importance.sum(), 1e-12), color=BLUE)
    return figure
