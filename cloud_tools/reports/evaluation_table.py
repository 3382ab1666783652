"""Owns an evaluation as lines of text; refuses to compute."""

from cloud_tools.datasets.person_ids import cut, fitted
from cloud_tools.evaluation.evaluation import Evaluation
from cloud_tools.reports.evaluation_report import Report


def evaluation_lines(evaluation: Evaluation) -> list[str]:
    """Return the people, the strangers, the baseline and the confusion matrix."""
    base = (evaluation.baseline or {}).get("per_person", {})
    lines = [f"{'person':20} {'crops':>6} {'accuracy':>9} {'vote of 5':>10} {'baseline':>9}"]
    for name, part in (*evaluation.per_person.items(), ("all", evaluation.overall)):
        note = "" if part.in_model or name == "all" else "  (not in the model)"
        beside = evaluation.baseline["accuracy"] if evaluation.baseline and name == "all" else base.get(name)
        shown = f"{'-':>9}" if beside is None else f"{beside:9.3f}"
        who = fitted(evaluation.shown(name), 20)
        lines.append(f"{who} {part.crops:6} {part.accuracy:9.3f} {part.vote5:10.3f} {shown}{note}")
    lines += stranger_lines(evaluation)
    if evaluation.baseline is not None:
        lines.append(f"baseline {evaluation.baseline['accuracy']:.3f} ({evaluation.baseline['name']})")
    return lines + _confusion_lines(evaluation)


def report_lines(report: Report, shown_by: str = "") -> list[str]:
    """Return everything but the pictures; ``shown_by`` says how to see these."""
    return [
        *evaluation_lines(report.evaluation),
        *_split_lines(report),
        *_confidence_lines(report),
        "",
        f"{report.mistakes_in_all} of {report.evaluation.overall.crops} members' crops got another's name and "
        f"{report.strangers_named_in_all} strangers' crops one" + (f" ({shown_by})" if shown_by else ""),
    ]


def stranger_lines(evaluation: Evaluation) -> list[str]:
    """Return how well strangers are told from members by the release's own rule."""
    found = evaluation.strangers
    if found is None:
        return ["strangers: the dataset has none (people called unknown), so nothing is known about them"]
    whose = "chosen without the stranger in question" if found.held_out else "the release's own"
    return [
        f"strangers ({found.people} people, {found.crops} crops): AUROC {found.auroc:.3f}, "
        f"votes of five {found.auroc5:.3f}",
        f"  {100 * found.named:.1f} % of their votes of five got a name (false accepts), "
        f"{100 * found.rejected:.1f} % of the members' got none (false rejects); threshold: {whose}",
    ]


def _confusion_lines(evaluation: Evaluation) -> list[str]:
    answers = sorted({label for row in evaluation.confusion.values() for label in row})
    lines = [
        "",
        "crops by truth (row) and answer (column)",
        " " * 20 + "".join(fitted(cut(evaluation.shown(name), 11), -12) for name in answers),
    ]
    for truth, row in evaluation.confusion.items():
        lines.append(fitted(evaluation.shown(truth), 20) + "".join(f"{row.get(name, 0):12}" for name in answers))
    return lines


def _split_lines(report: Report) -> list[str]:
    if report.splits is None:
        return ["", f"random split: {report.no_splits}"]
    splits, own = report.splits, report.evaluation.overall
    rows = (("this release, time split", own), ("trained anew, time split", splits.time))
    lines = ["", f"{'':34} {'crops':>6} {'accuracy':>9} {'vote of 5':>10}"]
    for what, part in (*rows, ("trained anew, random split", splits.random)):
        lines.append(f"{what:34} {part.crops:6} {part.accuracy:9.3f} {part.vote5:10.3f}")
    leak = 100 * (splits.random.accuracy - splits.time.accuracy)
    return [*lines, f"neighbouring frames on both sides flatter the random split by {leak:+.1f} points; time decides"]


def _confidence_lines(report: Report) -> list[str]:
    lines = [
        "",
        f"confidence is off by {100 * report.confidence.ece:.1f} points on average (ECE, 10 bins; "
        f"votes of five: {100 * report.confidence_vote5.ece:.1f})",
        f"{'confidence':12} {'crops':>6} {'said':>6} {'right':>6}",
    ]
    for row in report.confidence.bins:
        lines.append(f"{row.low:.1f} to {row.high:.1f}   {row.count:6} {row.confidence:6.3f} {row.accuracy:6.3f}")
    return lines
