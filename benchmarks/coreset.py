"""What a clever choice of prompts to pay for saves against a random one.

Half of a table is the pool, half is for testing. From the pool, prompts are chosen by each method, an estimator is
fitted to their answers, and the index policy's area under the curve is measured on the other half. ``gain`` is paired
with the random choice of the same seed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _answers import load
from _tables import DATA, parser, report

from cascade_core.calibration import AnswerTable, Prompt, choose_prompts
from cascade_core.estimation.fitting import fit_estimator
from cascade_core.evaluation import area
from cascade_core.strategies import IndexPolicy
from cascade_core.tuning import trace

METHODS = ("random", "k-center", "leverage")
TABLES = (
    "routerbench/routerbench_0shot_3tasks.parquet",
    "routellm/gsm8k_gpt4_mixtral.parquet",
    "zeroeval_gsm8k/gsm8k_9models.parquet",
)
MODELS = 5


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument(
        "--table", action="append", help="an answer table; by default three of the data folder"
    )
    options.add_argument("--data", type=Path, default=DATA)
    options.add_argument("--prompts", type=int, default=100, help="prompts that are paid for")
    options.add_argument("--seeds", type=int, default=5)
    given = options.parse_args()
    for table in given.table or [given.data / name for name in TABLES if (given.data / name).exists()]:
        answers = load(table)
        order = answers.cost.mean(axis=0).argsort()
        spread = np.unique(np.linspace(0, len(order) - 1, min(MODELS, len(order))).round().astype(int))
        answers = answers.select([answers.models[k] for k in order[spread]])
        areas = np.array(
            [
                [measure(answers, method, given.prompts, seed) for method in METHODS]
                for seed in range(given.seeds)
            ]
        )
        for column, method in enumerate(METHODS):
            gain = areas[:, column] - areas[:, 0]
            report(
                {
                    "table": f"{Path(table).parent.name}/{Path(table).name}",
                    "method": method,
                    "prompts": given.prompts,
                    "auc": float(areas[:, column].mean()),
                    "sd": float(areas[:, column].std()),
                    "gain": float(gain.mean()),
                    "gain_error": float(gain.std() / np.sqrt(len(gain))),
                },
                given.json,
            )


def measure(table: AnswerTable, method: str, count: int, seed: int) -> float:
    """Area under the curve × 100 on the test half."""
    pool, test = table.split(0.5, seed=seed)
    prompts = [Prompt(**{**query.model_dump(), "id": query.key}) for query in pool.queries]
    chosen = {prompt.key for prompt in choose_prompts(prompts, count, method=method, seed=seed)}
    train = pool.subset([n for n, key in enumerate(pool.ids) if key in chosen])
    estimates = fit_estimator(train, seed=seed).estimator.estimates(test)
    curve = trace(IndexPolicy(lam=0.0), estimates, test.quality, test.cost)
    return 100 * area(curve.cost, curve.quality, test.cost.mean(axis=0), test.quality.mean(axis=0))


if __name__ == "__main__":
    main()
