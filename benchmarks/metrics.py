"""How fast scores are counted: one meter update beside torchmetrics, interleaved in one process, medians.

Run: ``python benchmarks/metrics.py``. The work is what a validation pass does with one batch: probabilities
(8, K, 512, 512) float32, bool targets, and valid pixels, to IoU, precision, recall, F1 and MCC. torchmetrics shares
counts between these five where it can (its compute groups). Pixels that do not count are given as its ignore_index;
where all count it is spared that work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torchmetrics.classification as tm
from rows import Row, add_json_option, keep_rows
from torch import Tensor
from torchmetrics import MetricCollection

from maskwright.metrics import ThresholdMeter
from maskwright.pixels import IGNORE_INDEX


def torchmetrics_collection(options: dict[str, Any]) -> MetricCollection:
    return MetricCollection(
        [
            tm.BinaryJaccardIndex(**options),
            tm.BinaryPrecision(**options),
            tm.BinaryRecall(**options),
            tm.BinaryF1Score(**options),
            tm.BinaryMatthewsCorrCoef(**options),
        ]
    )


def contestants(heights: int, valid_share: float) -> dict[str, Callable[[], object]]:
    generator = torch.Generator().manual_seed(0)
    probs = torch.rand((8, heights, 512, 512), generator=generator)
    target = torch.rand((8, heights, 512, 512), generator=generator) < 0.2
    valid = torch.rand((8, 512, 512), generator=generator) < valid_share
    ignored: Tensor = target.long().masked_fill_(~valid.unsqueeze(1), IGNORE_INDEX)
    meter = ThresholdMeter([float(h + 1) for h in range(heights)])
    options = {"threshold": 0.5, "ignore_index": IGNORE_INDEX if valid_share < 1 else None}
    single = [tm.BinaryJaccardIndex(**options) for _ in range(heights)]
    collections = [torchmetrics_collection(options) for _ in range(heights)]
    for k, collection in enumerate(collections):  # the first update settles the compute groups
        collection.update(probs[:1, k], ignored[:1, k])

    def ours() -> None:
        meter.reset()
        meter.update(probs, target, valid)

    def theirs_iou() -> None:
        for k, metric in enumerate(single):
            metric.update(probs[:, k], ignored[:, k])

    def theirs_five() -> None:
        for k, collection in enumerate(collections):
            collection.update(probs[:, k], ignored[:, k])

    return {"maskwright, all scores": ours, "torchmetrics, IoU alone": theirs_iou, "torchmetrics, five": theirs_five}


def interleaved(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median milliseconds by name; every round runs every contestant once."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for round_ in range(rounds + 1):
        for name, call in work.items():
            started = time.perf_counter()
            call()
            if round_:  # the first round warms up
                times[name].append((time.perf_counter() - started) * 1e3)
    return {name: statistics.median(values) for name, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    add_json_option(parser)
    arguments = parser.parse_args()
    report, rows = {}, []
    for heights in (1, 4):
        for valid_share in (1.0, 0.9):
            times = interleaved(contestants(heights, valid_share), arguments.rounds)
            own = times["maskwright, all scores"]
            report[f"{heights} height(s), {valid_share:.0%} valid"] = {
                name: {"ms": round(ms, 3), "ratio": round(ms / own, 1)} for name, ms in times.items()
            }
            share = "" if valid_share == 1 else f", {1 - valid_share:.0%} of the pixels not valid"
            others = f"IoU alone {times['torchmetrics, five'] / times['torchmetrics, IoU alone']:.1f}"
            ratio = times["torchmetrics, five"] / own
            work = f"meter update (8, {heights}, 512, 512){share}"
            rows.append(Row(work, ratio, "x", "torchmetrics, the same five scores", others, 40.0))
    print(json.dumps({"threads": torch.get_num_threads(), "torch": torch.__version__, "result": report}, indent=2))
    keep_rows(arguments.json, rows)


if __name__ == "__main__":
    main()
