"""The notes' experiment on a model of your choice: one on this machine, or one behind an endpoint.

The commands::

    python -m mechbook.weber.full_scale gpt2 --out answers.parquet
    python -m mechbook.weber.full_scale --endpoint --out answers.parquet --dry-run

The file of answers has a row a cell; the chapter draws it beside its own networks where it is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mechbook import corpora, pretrained
from mechbook.weber import endpoint, scaling, stimuli, templates
from mechbook.weber.bridge import BridgeObserver
from mechbook.weber.observers import choices
from mechbook.weber.psychometrics import Counts, collect, fit_curve
from mechbook.weber.stimuli import Trial

COLUMNS = ("mean", "difference", "right", "trials")


def save_answers(path: Path, name: str, counts: Counts) -> None:
    """Write answers as parquet: the name of the judge, a row a cell, and how many had no answer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({column: getattr(counts, column) for column in COLUMNS})
    facts = {"judge": name, "unanswered": str(counts.unanswered)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata(facts), path)


def load_answers(path: Path) -> tuple[str, Counts]:
    """The judge's name and its answers.

    Raises:
        ValueError: no such file, or no file of answers.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        cells = [table.column(column).to_numpy().astype(float) for column in COLUMNS]
        facts = table.schema.metadata or {}
        name, unanswered = facts[b"judge"].decode(), int(facts[b"unanswered"])
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise ValueError(f"{path.name} is no file of answers; make one with `--out`") from error
    return name, Counts(cells[0], cells[1], cells[2], cells[3], unanswered)


def report(name: str, counts: Counts) -> str:
    """Thresholds by mean, the exponent and the test of the notes' prediction, in a few lines."""
    lines = [f"{name}: {counts.trials.sum():.0f} answers, {counts.unanswered} trials without one"]
    for mean in counts.means.tolist():
        lines.append(f"mean {mean:g}: {_threshold(counts.at(mean))}")
    try:
        found, test = scaling.exponent(counts), scaling.interaction_test(counts)
    except ValueError as problem:
        return "\n".join([*lines, f"no exponent: {problem}"])
    lines.append(f"JND ∝ mean^{found.value:.2f} (95 %: {found.low:.2f} to {found.high:.2f})")
    told = f"χ² = {test.statistic:.2f}, {test.degrees} degrees of freedom, p = {test.p_value:.3g}"
    return "\n".join([*lines, f"one slope for all means (the notes' prediction): {told}"])


def _threshold(counts: Counts) -> str:
    try:
        curve = fit_curve(counts)
    except ValueError as problem:
        return str(problem)
    return f"JND {curve.jnd:.2f}, PSE {curve.pse:.2f} words"


def words_from(text: str | None) -> tuple[str, ...]:
    """Words of a local text, or the book's own vocabulary without one."""
    return stimuli.shipped_words() if text is None else stimuli.words_of(corpora.files(text))


def trials_for(arguments: argparse.Namespace) -> list[Trial]:
    """The notes' design, or the wide one, with as many trials a size as asked for."""
    design = stimuli.WIDE if arguments.wide else stimuli.NOTES
    shown = stimuli.pairs(replace(design, per_size=arguments.per_size, seed=arguments.seed))
    source = words_from(arguments.text)
    return stimuli.write(shown, source, seed=arguments.seed, totals=arguments.totals)


def _local(name: str, trials: Sequence[Trial], seed: int) -> Counts:
    judge = BridgeObserver(pretrained.load(name))
    return collect(trials, choices(judge.judge(trials), seed))


def _estimate(judge: endpoint.EndpointObserver, trials: Sequence[Trial], prices: Any) -> str:
    # no tokenizer of the endpoint's is here: four letters a token is the usual rule of thumb
    found = endpoint.dry_run(judge, trials, lambda text: -(-len(text) // 4), prices)
    cost = "" if np.isnan(found.cost) else f", about {found.cost:.4f} in the prices' currency"
    return (
        f"{found.requests} requests to send, {found.cached} answered already; about {found.read} "
        f"tokens to read (four letters each), at most {found.written} to write{cost}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the experiment, print the report, write the answers."""
    options = _parser().parse_args(arguments)
    try:
        trials = trials_for(options)
        if not options.endpoint:
            name, counts = options.model, _local(options.model, trials, options.seed)
        else:
            judge = endpoint.EndpointObserver(endpoint.from_environment(Path(options.cache)))
            judge.counterbalanced = options.counterbalanced
            prices = templates.Prices(*options.prices) if options.prices else None
            if options.dry_run:
                print(_estimate(judge, trials, prices))
                return 0
            name, counts = judge.endpoint.model, collect(trials, judge.judge(trials))
            print(judge.report)
    except ValueError as problem:
        print(problem, file=sys.stderr)
        return 1
    save_answers(Path(options.out), name, counts)
    print(report(name, counts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mechbook.weber.full_scale", description=main.__doc__)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("model", nargs="?", help="a model on this machine, such as gpt2")
    who.add_argument("--endpoint", action="store_true", help="ask the endpoint of the environment")
    parser.add_argument("--out", default="weber-answers.parquet", help="file for the answers")
    parser.add_argument("--per-size", type=int, default=10, help="trials a mean and size, even")
    parser.add_argument("--wide", action="store_true", help="means 5 to 60, sizes to 8")
    parser.add_argument("--text", help="file or folder to draw words from")
    parser.add_argument(
        "--totals", choices=stimuli.TOTALS, default="free", help="see stimuli.write"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", default="weber-cache", help="folder for an endpoint's answers")
    parser.add_argument("--counterbalanced", action="store_true", help="four views of each trial")
    parser.add_argument("--prices", type=float, nargs=2, help="of a million tokens read, written")
    parser.add_argument("--dry-run", action="store_true", help="tokens and cost, and no request")
    return parser


if __name__ == "__main__":
    sys.exit(main())
