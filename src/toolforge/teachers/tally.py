"""What the labels are, what they cost, and how often they are gold's: counts, a price table, no request."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from rich.console import Console
from rich.table import Table

from toolforge.params import Params
from toolforge.records import Example, ToolCall, class_of, read_jsonl
from toolforge.teachers.slots import Slots
from toolforge.teachers.store import Record
from toolforge.tools import Catalogue

# Google's own rule of thumb (ai.google.dev/gemini-api/docs/tokens): a token is about four characters of English.
CHARACTERS_PER_TOKEN = 4
# `[{"name": "weather", "arguments": {"location": "Oslo"}}]` and the like, without thoughts.
ANSWER_TOKENS = 30
BATCH_PRICE = 0.5


class Price(Params):
    """USD per million tokens."""

    input: float = Field(ge=0)
    output: float = Field(ge=0)


class Tally:
    """Counts records one by one, holding none of them."""

    def __init__(self, prices: dict[str, Price], gold: dict[str, Example]) -> None:
        """`gold` is by the query's text."""
        self._prices, self._gold = prices, gold
        self.total = self.labelled = self.missing = self.unfit = 0
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._classes: Counter[str] = Counter()
        self._models: dict[str, Counter[str]] = defaultdict(Counter)
        self._cost: dict[str, float] = defaultdict(float)
        self._unpriced: set[str] = set()
        self._pairs: dict[str, list[tuple[list[ToolCall], list[ToolCall]]]] = defaultdict(list)

    def count(self, record: Record | None, fits: bool) -> None:
        """Count a query's record; `fits` where its label fits the catalogue."""
        self.total += 1
        if record is None:
            self.missing += 1
            self._outcomes["missing"] += 1
            return
        by_model = self._models[record.model]
        by_model["answers"] += 1
        by_model["prompt_tokens"] += record.prompt_tokens
        by_model["tokens"] += record.tokens
        self._pay(record)
        if record.calls is None:
            self._outcomes[record.outcome] += 1
            self._reasons[record.reason] += 1
        elif not fits:
            self.unfit += 1
            self._outcomes["unfit"] += 1
        else:
            self.labelled += 1
            self._outcomes["label"] += 1
            self._classes[class_of(record.calls)] += 1
            by_model["labels"] += 1
            if record.query in self._gold:
                self._pairs[record.model].append((self._gold[record.query].calls, record.calls))

    def _pay(self, record: Record) -> None:
        asked = record.asked or record.model
        if asked not in self._prices:
            if record.tokens:
                self._unpriced.add(asked)
            return
        price = self._prices[asked]
        sent, answered = record.prompt_tokens, record.tokens - record.prompt_tokens
        share = BATCH_PRICE if record.batch else 1.0
        self._cost[record.model] += share * (sent * price.input + answered * price.output) / 1e6

    @property
    def kept_out(self) -> str:
        """The reasons for which answered queries have no label, the commonest first; "" where there is none."""
        return "; ".join(f"{count} x {reason}" for reason, count in self._reasons.most_common(3))

    def report(self) -> dict[str, Any]:
        """The metrics: labels by outcome, class and model, tokens, cost in USD, and agreement with gold by model."""
        report: dict[str, Any] = {
            "queries": self.total,
            "by_outcome": dict(sorted(self._outcomes.items())),
            "by_class": dict(sorted(self._classes.items())),
            "by_model": {
                model: {**counts, "usd": round(self._cost[model], 4)} for model, counts in sorted(self._models.items())
            },
            "tokens": sum(counts["tokens"] for counts in self._models.values()),
            "usd": round(sum(self._cost.values()), 4),
        }
        if self._unpriced:
            report["without_a_price"] = sorted(self._unpriced)
        if self._gold:
            # Imported here: statsmodels and scikit-learn take seconds, and only this needs them.
            from toolforge import scoring

            report["agreement_with_gold"] = {
                model: {
                    **scoring.share([scoring.tools_match(*pair) for pair in pairs], "tool_agreement"),
                    **scoring.share([scoring.calls_match(*pair) for pair in pairs], "call_agreement"),
                }
                for model, pairs in sorted(self._pairs.items())
            }
        return report


def load_gold(folder: Path | None) -> dict[str, Example]:
    """The examples in a folder by their query; where a query stands twice, the first."""
    gold: dict[str, Example] = {}
    for path in sorted(folder.glob("*.jsonl")) if folder else []:
        for _, example in read_jsonl(path, Example):
            gold.setdefault(example.query, example)
    return gold


def estimate(
    queries: Sequence[str],
    catalogue: Catalogue,
    guide: str,
    models: Sequence[str],
    prices: dict[str, Price],
    batch: bool,
) -> str:
    """The requests, tokens and USD that labelling the queries would take. An estimate: see the constants for its rules; retries
    come on top.
    """
    fixed = len(guide) + len(str(catalogue.schemas))
    sent = sum(fixed + len(query) for query in queries) // CHARACTERS_PER_TOKEN
    answered = ANSWER_TOKENS * len(queries)
    lines = [
        f"requests  {len(queries)}" + (" rows of batch jobs" if batch else ""),
        f"tokens    {sent + answered}: {sent} sent, {answered} answered (estimated: {CHARACTERS_PER_TOKEN} characters a token, "
        f"{ANSWER_TOKENS} tokens an answer, no thoughts, no retries)",
    ]
    for model in models:
        price = prices.get(model)
        if price:
            usd = (BATCH_PRICE if batch else 1.0) * (sent * price.input + answered * price.output) / 1e6
            lines.append(f"cost      {usd:.2f} USD if {model} answers all" + (", at the batch price" if batch else ""))
        else:
            lines.append(f"cost      unknown: params.yaml has no teacher.prices for {model}")
    return "\n".join(lines)


def slot_table(slots: Slots) -> None:
    """Print each slot's requests and answers, its state, and the limits that it was found to have."""
    table = Table(title="slots")
    for name in ("project", "model", "requests", "answers", "state", "limits"):
        table.add_column(name, justify="right" if name in ("requests", "answers") else "left")
    for slot in slots.all:
        table.add_row(
            slot.keys[0].project, slot.model, str(slot.asked), str(slot.answered), slot.state(),
            ", ".join(f"{size} a {period}" for period, size in slot.limits.items()),
        )  # fmt: skip
    # What a service says is no markup.
    Console(markup=False).print(table)
