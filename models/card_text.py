"""The model card as a page to read."""

from typing import Any

from models.backtest import MODEL
from models.weights_file import ModelCard

MEASURES = ("wape", "pinball", "rmsse", "bias", "coverage90")


def render(card: ModelCard) -> str:
    """Markdown."""
    trained = card.trained
    lines = [
        f"# Model card: {card.version}",
        "",
        "A GRU cell whose hidden state is carried per SKU, with negative-binomial heads for demand "
        "within 1, 5, 15 and 60 minutes and until the end of the sale, and for load 1 and 5 "
        "minutes ahead. Demand is a learned mixture of plain rate forecasts times a correction.",
        "",
        f"- Hidden size {card.hidden_size}; SHA-256 of the weights `{card.sha256}`.",
        f"- Trained with seed {trained['seed']}: {trained['steps']} steps of {trained['crops']} "
        f"crops of {trained['crop_steps']} buckets, {trained['seconds']} s on one thread.",
        f"- {trained['track_steps']:,} bucket steps and {trained['samples_available']:,} forecasts "
        "to learn from, in these series: " + ", ".join(trained["series"]) + ".",
        "- In simulated series it learns from demand itself, which the simulator knows; in real "
        "ones from what was sold.",
        "",
        "## How it does on what it never saw",
        "",
        "WAPE is of the median (plain methods: of their forecast), RMSSE and bias of the mean, "
        "pinball the mean loss at .05, .10, .50, .90, .95. Plain methods' quantiles have the "
        "dispersion that fits best in hindsight. RMSSE is relative to `naive`. Where hardly "
        "anything sells the median is 0 and WAPE 1: compare pinball and RMSSE there. `load` is the "
        "events a second of all SKUs together over a minute that ends at the lead.",
    ]
    for name, exam in card.metrics.items():
        lines += ["", f"### {name}", "", *_exam(exam)]
    lines += [
        "",
        "## Limits",
        "",
        "- A simulated sale's shape (opening spike, end rush) is the simulator's own; another "
        "shop's may differ, and then the levels carry the forecast.",
        "- Prices are features, not causes: do not read elasticities from it.",
        "- Rare bulk orders are damped in training: where they are much of what is sold "
        "(wholesale), the mean is too low (see bias) while the quantiles hold.",
        "- Where the shelf stays empty nothing is learned about demand but its lower bound.",
    ]
    return "\n".join(lines) + "\n"


def _exam(exam: dict[str, Any]) -> list[str]:
    lines = [
        f"{exam['forecasts']:,} origins x SKUs, {exam['fallback_share']:.1%} plain fallbacks.",
        "",
        "| horizon | method | " + " | ".join(MEASURES) + " |",
        "|---|---|" + "---|" * len(MEASURES),
    ]
    for horizon, methods in exam["scores"].items():
        for method, scores in methods.items():
            shown = f"**{method}**" if method == MODEL else method
            values = " | ".join(f"{scores[measure]:g}" for measure in MEASURES)
            lines.append(f"| {horizon} | {shown} | {values} |")
    beaten = exam["beaten_by"]
    lines += ["", "Beaten by a plain method: " + (", ".join(beaten) if beaten else "nowhere") + "."]
    return lines
