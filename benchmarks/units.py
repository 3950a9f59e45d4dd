"""Korean film reviews as characters, bytes, jamo and words: what a model of each predicts in the same time.

    python benchmarks/units.py [--minutes 5] [--reviews 60000] [--json FILE]

Each unit is trained for the same minutes on the first nine tenths of the same reviews of NSMC, one document each, and
measured on the last tenth, read once. Bits are per character of the text, whatever the unit. What is unknown (words
that occur less than eight times) costs what the symbol for it does; `spelled` adds what a unigram model of characters
needs to write it out, and is the figure to compare. Beside them stand simple models of the same text.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import math
import os
import platform
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

import unrolled
from unrolled.models.ngram import WittenBell
from unrolled.training.progress import aligned

DATA = Path(os.environ.get("UNROLLED_DATA", "../shared/data")) / "nsmc" / "ratings_train.txt"
HELD_OUT = 0.1
UNITS: dict[str, dict[str, Any]] = {
    "characters": {},
    "bytes": {"window": 64},
    "jamo": {"window": 64},
    "words": {"min_count": 8, "embedding_size": 256},
}
OPTIONS: dict[str, Any] = {"hidden_size": 256, "dropout": 0.2, "patience": 0, "evaluations": 5}
PROMPT = "이 영화"


def reviews(count: int) -> list[str]:
    """The first reviews that are not empty."""
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        texts = [row["document"].strip() for row in rows if row["document"] and row["document"].strip()]
    return texts[:count]


def baselines(known: list[str], held_out: list[str]) -> dict[str, float]:
    """Bits per character of simple models; each review ends with a line break."""
    training, text = "\n".join(known) + "\n", "\n".join(held_out) + "\n"
    bits = unigram_bits(training)
    unigram = sum(bits.get(character, bits[""]) for character in text) / len(text)
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    return {
        "unigram of characters": unigram,
        "lzma, the held-out text alone": 8 * len(packed) / len(text),
        "Witten-Bell, five characters of context": WittenBell(training).bits(text),
    }


def unigram_bits(text: str) -> dict[str, float]:
    """Bits that each character of a text costs, the last one for all others."""
    counts = Counter(text)
    total = sum(counts.values()) + len(counts) + 1
    return {**{key: -math.log2((count + 1) / total) for key, count in counts.items()}, "": math.log2(total)}


def spelling(run: Any, known: list[str], held_out: list[str]) -> float:
    """Bits to spell what is unknown in the held-out reviews, each with a mark where it ends."""
    bits, symbols = unigram_bits("\n".join(known)), set(run.vocabulary.symbols)
    unknown = [token for text in held_out for token in run.vocabulary.unit.split(text) if token not in symbols]
    return sum(bits.get(character, bits[""]) for token in unknown for character in token + " ")


def measure(unit: str, known: list[str], held_out: list[str], minutes: float) -> dict[str, Any]:
    """Train one model and read the held-out reviews with it."""
    start = time.perf_counter()
    # A share of what is trained on is held out again, to choose the weights by.
    options = {**OPTIONS, **UNITS[unit], "held_out": 0.03, "minutes": minutes}
    run = unrolled.train("language-model", {"review": known}, unit=unit, **options)
    trained = time.perf_counter() - start
    found = run.evaluate({"review": held_out})
    return {
        "unit": unit,
        "bits_per_character": found["bits_per_character"],
        "spelled": found["bits_per_character"] + spelling(run, known, held_out) / found["characters"],
        "bits_per_token": found["bits"],
        "tokens_per_review": found["tokens"] / len(held_out),
        "symbols": len(run.vocabulary),
        "unknown": found["unknown"] / found["tokens"],
        "steps": run.config["recorded"]["steps"],
        "readings": run.config["recorded"]["steps"]
        * run.config["training"]["window"]
        * 32
        / run.config["recorded"]["tokens"],
        "seconds": trained,
        "evaluation_seconds": time.perf_counter() - start - trained,
        "samples": run.generate(PROMPT, samples=4, length=200, temperature=0.7),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--reviews", type=int, default=60_000)
    parser.add_argument("--units", nargs="*", default=list(UNITS), choices=list(UNITS))
    parser.add_argument("--json", help="write the figures there as well")
    arguments = parser.parse_args()
    if not DATA.exists():
        raise SystemExit(f"{DATA} is not there: UNROLLED_DATA names the folder of the data")
    texts = reviews(arguments.reviews)
    cut = int(len(texts) * (1 - HELD_OUT))
    known, held_out = texts[:cut], texts[cut:]
    simple = baselines(known, held_out)
    rows = [measure(unit, known, held_out, arguments.minutes) for unit in arguments.units]

    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{len(known):,} reviews to train on, {len(held_out):,} to measure on, {arguments.minutes:g} minutes each\n")
    print(
        f"{'unit':12}{'bits/char':>10}{'spelled':>9}{'tokens/review':>15}{'symbols':>9}{'unknown':>9}{'readings':>10}{'seconds':>9}"
    )
    for row in rows:
        print(
            f"{row['unit']:12}{row['bits_per_character']:10.3f}{row['spelled']:9.3f}{row['tokens_per_review']:15.1f}{row['symbols']:9,}"
            f"{row['unknown']:9.2%}{row['readings']:10.2f}{row['seconds']:9.0f}"
        )
    print("\n" + "\n".join(aligned([(name, f"{bits:.3f} bits/char") for name, bits in simple.items()])))
    for row in rows:
        print(f"\n{row['unit']}, after {PROMPT!r}, temperature 0.7:")
        print("\n".join(f"  {sample}" for sample in row["samples"]))
    if arguments.json:
        content = {"torch": torch.__version__, "minutes": arguments.minutes, "rows": rows, "baselines": simple}
        Path(arguments.json).write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
