"""The card that goes with a model: what it is, what it was judged on, and what it is not for."""

from churnstream.models.dataset import TrainingSet
from churnstream.models.manifest import Manifest
from churnstream.models.training import Trained
from churnstream.usecases.case import UseCase, spell


def model_card(manifest: Manifest, case: UseCase, data: TrainingSet, trained: Trained) -> str:
    """Markdown."""
    metrics = manifest.metrics
    lines = [
        f"# {case.title}: churn model {manifest.version}",
        "",
        f"LightGBM, {len(manifest.features)} features, judged {spell(case.decision)} after the first `{case.features.anchor}`.",
        f"Churned means: {manifest.label}.",
        "",
        "## Judged on",
        "",
        (
            f"The newest {int(metrics['holdout_customers'])} of {len(data)} customers by their first `{case.features.anchor}`,"
            f" {metrics['churn_rate']:.1%} of whom churned. {data.unmatured} customers were left out:"
            " their label was not known yet."
        ),
        "",
        "| figure | value |",
        "|---|---|",
        f"| AUC (95 % bootstrap) | {metrics['auc']:.4f} ({metrics['auc_low']:.4f} to {metrics['auc_high']:.4f}) |",
        f"| average precision | {metrics['average_precision']:.4f} |",
        f"| log loss | {metrics['log_loss']:.4f} |",
        f"| Brier score | {metrics['brier']:.4f} |",
        f"| lift in the top 10 % | {metrics['lift_at_10_percent']:.2f} |",
        "",
    ]
    if manifest.note:
        lines += ["## Mind", "", manifest.note, ""]
    if len(trained.slices):
        lines += ["## By group", "", "| group | customers | churned | AUC |", "|---|---|---|---|"]
        lines += [
            f"| {row.slice} = {row.value} | {row.customers} | {row.churn_rate:.1%} | {row.auc:.4f} |"
            for row in trained.slices.itertuples()
        ]
        lines.append("")
    lines += ["## Features", "", "| feature | unit | meaning | share of the gain |", "|---|---|---|---|"]
    total = max(trained.importance.sum(), 1e-12)
    lines += [
        f"| `{each.name}` | {each.unit} | {each.doc} | {trained.importance[each.name] / total:.1%} |"
        for each in case.features.features
    ]
    return "\n".join([*lines, "", f"Feature fingerprint `{manifest.fingerprint}`, data digest `{manifest.data_digest}`.", ""])
