"""The card that goes with a model: what it is, what it was judged on, and what it is not for."""

from datetime import timedelta

from churnstream.models.dataset import TrainingSet
from churnstream.models.manifest import Manifest
from churnstream.models.slices import worse_groups
from churnstream.models.training import Trained
from churnstream.usecases.case import UseCase, spell


def model_card(manifest: Manifest, case: UseCase, data: TrainingSet, trained: Trained) -> str:
    """Markdown."""
    metrics, decision = manifest.metrics, timedelta(seconds=manifest.decision_s)
    lines = [
        f"# {case.title}: churn model {manifest.version}",
        "",
        f"LightGBM, {len(manifest.features)} features, judged {spell(decision)} after the first `{case.features.anchor}`.",
        f"Churned means: {manifest.label}.",
        "",
        "## Judged on",
        "",
        (
            f"The newest {int(metrics['holdout_customers'])} of {len(data)} customers by their first `{case.features.anchor}`,"
            f" {metrics['churn_rate']:.1%} of whom churned. {data.unmatured} customers were left out: their label was not known"
            f" yet. {trained.parts.unknown} more were not learnt from: their label became known only after the first of the"
            " newest was judged."
        ),
        "",
        *_figures(trained),
    ]
    mind = minds(manifest, case, trained)
    if mind:
        lines += ["## Mind", ""] + [f"- {each}" for each in mind] + [""]
    lines += [*_groups(trained), *_features(case, trained)]
    return "\n".join([*lines, "", f"Feature fingerprint `{manifest.fingerprint}`, data digest `{manifest.data_digest}`.", ""])


def minds(manifest: Manifest, case: UseCase, trained: Trained) -> list[str]:
    """What whoever uses the model has to keep in mind, a sentence each: the case's own note, what is suspicious, who is served
    worse."""
    found = [manifest.note] if manifest.note else []
    if trained.too_good:
        found.append(
            f"{', '.join(trained.too_good)} nearly {'tell' if len(trained.too_good) > 1 else 'tells'} the label alone; ask how"
            " it comes about before you believe the figures."
        )
    best = trained.baselines["auc"].astype(float).idxmax()
    if trained.baselines.loc[best, "auc"] >= trained.metrics["auc"]:
        found.append(
            f"A {best} on the same customers ranks as well (AUC {trained.baselines.loc[best, 'auc']:.4f}); what the model adds is"
            " not in the ranking."
        )
    if trained.calibration.method == "none":
        found.append("Its probabilities are not calibrated: there were too few customers to do it on.")
    return found + [f"Worse for {each}." for each in worse_groups(trained.slices, trained.metrics["auc"])]


def _figures(trained: Trained) -> list[str]:
    rows = {"this model": trained.metrics} | {str(name): row.to_dict() for name, row in trained.baselines.iterrows()}
    lines = [
        "| | AUC (95 % bootstrap) | average precision | of stayers | log loss | Brier score | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, told in rows.items():
        lines.append(
            f"| {name} | {told['auc']:.4f} ({told['auc_low']:.4f} to {told['auc_high']:.4f}) | {told['average_precision']:.4f} |"
            f" {told['average_precision_stayers']:.4f} | {told['log_loss']:.4f} | {told['brier']:.4f} |"
            f" {told['calibration_error']:.4f} |"
        )
    lift = (
        f"Among the 5 % with the highest probabilities stand {trained.metrics['lift_at_5_percent']:.2f} times as many who leave"
        f" as among all, among the 10 % {trained.metrics['lift_at_10_percent']:.2f} times."
    )
    return [*lines, "", lift, ""]


def _groups(trained: Trained) -> list[str]:
    if not len(trained.slices):
        return []
    lines = ["## By group", "", "| group | customers | churned | AUC (95 % bootstrap) | |", "|---|---|---|---|---|"]
    lines += [
        f"| {row.slice} = {row.value} | {row.customers} | {row.churn_rate:.1%} | {row.auc:.4f} ({row.auc_low:.4f} to"
        f" {row.auc_high:.4f}) | {'worse' if row.worse else ''} |"
        for row in trained.slices.itertuples()
    ]
    return [*lines, ""]


def _features(case: UseCase, trained: Trained) -> list[str]:
    total = max(trained.importance.sum(), 1e-12)
    return ["## Features", "", "| feature | unit | meaning | share of the gain |", "|---|---|---|---|"] + [
        f"| `{each.name}` | {each.unit} | {each.doc} | {trained.importance[each.name] / total:.1%} |"
        for each in case.features.features
    ]
