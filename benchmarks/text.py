"""Models of labelled texts: how good they are beside simple methods, and how fast beside torch.nn written by hand.

    python benchmarks/text.py [--part PART …] [--write DIR]

    nsmc      Korean film reviews: accuracy on the test set beside both bags, with and without texts seen in training
    words     which words the model of the reviews holds alike
    explain   on 500 test reviews: how far the probability falls without the three top words, and three of chance
    peers     time of an epoch and documents a second in inference: ours, and the same network in torch.nn by hand
    ewt       UD English EWT: parts of speech, in both directions and forward only
    wnut      WNUT17: entities, with and without a CRF
    snips     intents and slots by one model

Each trains what it needs; `explain` and `words` need the run of `nsmc` (--run). Data are found through UNROLLED_DATA.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import machine, versions
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unrolled
from unrolled.data.buckets import buckets
from unrolled.data.examples import examples
from unrolled.data.splitting import splitter
from unrolled.layers.words import Words
from unrolled.models.text import TextModel
from unrolled.options import settle
from unrolled.tasks import ClassifyRun
from unrolled.tasks.classify import ClassifyTask
from unrolled.tasks.classify.baselines import baselines
from unrolled.tasks.classify.figures import figures, one_hot
from unrolled.tasks.classify.pages import MAPPED, mapped
from unrolled.tasks.reading import READ_TOKENS
from unrolled.training.optimise import AdamW, clip

DATA = Path(os.environ.get("UNROLLED_DATA") or "../shared/data")
NSMC = {
    "skip_bad": True, "unit": "morphemes", "members": 2, "embedding_size": 100, "hidden_size": 160, "epochs": 4,
    "batch_tokens": 3000, "held_out": 0.05, "patience": 0, "baselines": False,
}  # fmt: skip
REVIEWS = 500
# Fun, actor, best, not much, tears, bored, director, touching.
WORDS = ("재미", "배우", "최고", "별로", "눈물", "지루", "감독", "감동")
ROUNDS = 5


def nsmc(folder: Path) -> dict[str, Any]:
    """Train on the training set, and measure the test set once."""
    files = DATA / "nsmc" / "ratings_train.txt", DATA / "nsmc" / "ratings_test.txt"
    run, taken = trained("classify", files[0], folder / "nsmc", **NSMC)
    measured, reading = timed(lambda: run.evaluate(files[1], skip_bad=True))
    rows = [("model", measured["methods"]["recurrent"], taken)]
    rows += bags(run, *files)
    clean = measured["without_known"]["recurrent"]
    return {
        "seconds": taken, "reading": reading, "memory": peak(), "parameters": run.parameters,
        "known_again": measured["known_again"], "texts": measured["texts"], "without_known": clean,
        "methods": {name: {**found, "seconds": seconds} for name, found, seconds in rows},
    }  # fmt: skip


def bags(run: ClassifyRun, *files: Path) -> list[tuple[str, dict[str, float], float]]:
    """Bags of words and of characters, learned of all training texts and measured on the test set."""
    read = [list(examples(file, skip_bad=True)) for file in files]
    first, other = ([each.texts[0] for each in part] for part in read)
    labels = [run.labels.targets([each.label for each in part]).numpy() for part in read]
    found = baselines(first, labels[0], 2, other, several=False, seed=0)
    return [(each.name, figures(each.probabilities, one_hot(labels[1], 2), False), each.seconds) for each in found]


def explain(run_folder: Path) -> dict[str, Any]:
    """By how much the probability of the label falls without three words."""
    run, draw = unrolled.load(run_folder / "nsmc"), random.Random(0)
    read = examples(DATA / "nsmc" / "ratings_test.txt", skip_bad=True)
    texts = [each.texts[0] for each in read if len(run.reader.split(*each.texts)) >= 8]
    falls: dict[str, list[float]] = {"three top words": [], "three words of chance": []}
    for text in draw.sample(texts, REVIEWS):
        given = run.predict(text)
        parts = run.explain(text)
        order = sorted(range(len(parts)), key=lambda place: -parts[place].nats)
        for name, out in (("three top words", order[:3]), ("three words of chance", draw.sample(order, 3))):
            left = " ".join(each.part for place, each in enumerate(parts) if place not in out)
            falls[name].append(given.probability - run.predict(left).probabilities[given.label])
    more = np.array(falls["three top words"]) > np.array(falls["three words of chance"])
    return {"reviews": REVIEWS, "fall": {name: statistics.mean(each) for name, each in falls.items()},
            "more": float(more.mean())}  # fmt: skip


def words(run_folder: Path) -> dict[str, Any]:
    """Which words the model of film reviews holds alike."""
    run = unrolled.load(run_folder / "nsmc")
    frequent = [word for word in run.reader.lexicon.words if any(map(str.isalpha, word))][:MAPPED]
    drawing = str(mapped(run, frequent).rows[0][0])
    # In a page its colours are those of the page.
    for name, colour in (("ink", "#1c1c1e"), ("training", "#2f6db5"), ("held-out", "#c2500a")):
        drawing = drawing.replace(f"var(--{name})", colour)
    drawing = drawing.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" style="background: white" ', 1)
    return {"neighbours": {word: run.neighbours(word, 6) for word in WORDS}, "drawing": drawing}


class ByHand(nn.Module):
    """The same network as one writes it with torch.nn: rows sorted and packed, the largest output of each unit."""

    def __init__(self, task: ClassifyTask):
        super().__init__()
        spelling, options = task.reader.lexicon.spelling, task.options
        self.own = nn.Embedding(len(task.reader.lexicon), options.embedding_size)
        self.groups = nn.EmbeddingBag(spelling.size, options.embedding_size, mode="sum")
        self.lstm = nn.LSTM(options.embedding_size, options.hidden_size, options.layers, bidirectional=True)
        self.dropout = nn.Dropout(options.dropout)
        self.head = nn.Linear(2 * options.hidden_size, 1)

    def forward(self, words: Words) -> Tensor:
        """Scores (batch, 1)."""
        vectors = self.dropout(self.own(words.known) + self.groups(words.pieces, words.begins))
        x = functional.embedding(words.places, vectors)
        lengths, order = words.lengths.sort(descending=True)
        y, _ = pad_packed_sequence(self.lstm(pack_padded_sequence(x[:, order], lengths))[0], padding_value=-torch.inf)
        return torch.as_tensor(self.head(self.dropout(y.amax(0)[order.argsort()])))


def peers(_: Path) -> dict[str, Any]:
    """Ours and torch.nn by hand on the same batches, in turn: training, and reading with batches made beforehand.

    The linear model beside the networks is left out: it is learned before the first step.
    """
    path = DATA / "nsmc" / "ratings_train.txt"
    lines = path.read_text(encoding="utf-8").split("\n")[:20001]
    options = {"skip_bad": True, "wide": 0, "piece_dropout": 0.0, "word_dropout": 0.0}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "reviews.tsv"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        task, narrow = (
            ClassifyTask.reading(file, settle("classify", {**options, "precision": precision}))
            for precision in ("", "bf16")
        )
    contenders: dict[str, tuple[nn.Module, bool]] = {
        "unrolled": (task.model, False), "unrolled, bf16": (narrow.model, False),
        "torch.nn by hand": (ByHand(task), False), "torch.nn by hand, bf16": (ByHand(task), True),
    }  # fmt: skip
    batches = list(task.windows(0, 0))
    reading = [task.encoded.batch(task.train[rows]) for rows in buckets(task.encoded.lengths[task.train], READ_TOKENS)]
    times: dict[str, dict[str, list[float]]] = {name: {"epoch": [], "reading": []} for name in contenders}
    for _round in range(ROUNDS):
        for name, (model, cast) in contenders.items():
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                times[name]["epoch"].append(timed(partial(epoch, model, task, batches))[1])
                times[name]["reading"].append(timed(partial(read, model, reading))[1])
    seconds = {name: {what: statistics.median(each) for what, each in taken.items()} for name, taken in times.items()}
    by_hand = seconds["torch.nn by hand"]
    ratios = {name: {what: by_hand[what] / each[what] for what in each} for name, each in seconds.items()}
    return {"texts": len(task.train), "seconds": seconds, "times as fast as torch.nn by hand": ratios}


def epoch(model: nn.Module, task: ClassifyTask, batches: list[Any]) -> None:
    """One epoch: forward, backward, clipping and the optimiser."""
    model.train()
    is_ours = isinstance(model, TextModel)
    make = AdamW if is_ours else torch.optim.AdamW
    optimiser = make(model.parameters(), 1e-3, fused=True)
    for batch in batches:
        optimiser.zero_grad(set_to_none=True)
        wanted = task.targets[batch.rows][:, None].float()
        functional.binary_cross_entropy_with_logits(model(batch.words), wanted).backward()
        if is_ours:
            clip(model.parameters(), 1.0)
        else:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()


def read(model: nn.Module, batches: list[Words]) -> None:
    """All texts once, without gradients."""
    model.eval()
    with torch.inference_mode():
        for batch in batches:
            model(batch)


EWT = {"hidden_size": 200, "embedding_size": 100, "epochs": 20, "patience": 0}
WNUT = {"hidden_size": 128, "layers": 1, "epochs": 12, "patience": 0}
SNIPS = {"hidden_size": 128, "layers": 1, "word_dropout": 0.1, "epochs": 6, "crf": True, "intent": "intent"}


def tagged(train: Path, test: Path, out: Path, rows: dict[str, dict[str, Any]], **options: Any) -> dict[str, Any]:
    """A tagger a row, each measured on the test set once, with the most frequent label of each word beside them."""
    found: dict[str, Any] = {}
    for name, own in rows.items():
        run, taken = trained("tag", train, out / name.replace(" ", "-"), **{**options, **own})
        (measured,) = run.evaluate(test)["methods"].values()
        found[name] = {**measured, "seconds": taken, "held_out": run.assessment["methods"]}
    return {"options": {name: str(value) for name, value in options.items()}, "rows": found, "memory": peak()}


def ewt(folder: Path) -> dict[str, Any]:
    """Parts of speech of UD English EWT."""
    train, dev, test = (DATA / "ud_english_ewt" / f"en_ewt-ud-{part}.conllu" for part in ("train", "dev", "test"))
    rows: dict[str, dict[str, Any]] = {"both directions": {}, "forward only": {"bidirectional": False}}
    return tagged(train, test, folder / "ewt", rows, held_out_data=str(dev), **EWT)


def wnut(folder: Path) -> dict[str, Any]:
    """New and rare entities of WNUT17."""
    data = DATA / "wnut17"
    rows = {"softmax": {}, "conditional random field": {"crf": True}}
    return tagged(
        data / "wnut17train.conll", data / "emerging.test.annotated", folder / "wnut", rows,
        held_out_data=str(data / "emerging.dev.conll"), **WNUT,
    )  # fmt: skip


def snips(folder: Path) -> dict[str, Any]:
    """Intents and slots of Snips, whose 700 validation queries are the test set; a tenth of the others is held out."""
    with tempfile.TemporaryDirectory() as scratch:
        train, test = Path(scratch) / "train.jsonl", Path(scratch) / "test.jsonl"
        for path, pattern in ((train, "train_*_full.json"), (test, "validate_*.json")):
            queries = [line for file in sorted((DATA / "snips").glob(pattern)) for line in queries_of(file)]
            path.write_text("".join(json.dumps(query) + "\n" for query in queries), encoding="utf-8")
        return tagged(train, test, folder / "snips", {"one model": {}}, **SNIPS)


def queries_of(path: Path) -> Iterator[dict[str, Any]]:
    """The queries of a file as tokens, tags and intent."""
    content = path.read_bytes()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    split = splitter("words")
    for intent, queries in json.loads(text).items():
        for query in queries:
            tokens: list[str] = []
            tags: list[str] = []
            for piece in query["data"]:
                words, slot = split(piece["text"]), piece.get("entity")
                tokens += words
                tags += [f"{'I' if place else 'B'}-{slot}" if slot else "O" for place in range(len(words))]
            if tokens:
                yield {"tokens": tokens, "tags": tags, "intent": intent}


def trained(task: str, data: Path, out: Path, **options: Any) -> tuple[Any, float]:
    """A run, and the seconds that it took, assessment included."""
    return timed(lambda: unrolled.train(task, data, out=out, **options))


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and its seconds."""
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def peak() -> float:
    """The most memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "nsmc": nsmc,
    "explain": explain,
    "words": words,
    "peers": peers,
    "ewt": ewt,
    "wnut": wnut,
    "snips": snips,
}


def show(console: Console, part: str, found: dict[str, Any]) -> None:
    """What a part found, as a table."""
    if "methods" in found:
        table = Table(
            "method", "accuracy", "macro F1", "calibration error", "seconds", title=part, title_justify="left"
        )
        for name, each in found["methods"].items():
            figures = (f"{each['accuracy']:.2%}", f"{each['macro_f1']:.2%}", f"{each['calibration_error']:.3f}")
            table.add_row(name, *figures, f"{each['seconds']:.0f}")
        console.print(table)
    console.print_json(json.dumps({name: value for name, value in found.items() if name != "methods"}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--write", type=Path, help="a folder for the results, a file of JSON each")
    parser.add_argument("--run", type=Path, help="where runs are written, and the run of `explain` is found")
    arguments = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory() as scratch:
        for part in arguments.part or PARTS:
            console.rule(part)
            before = machine(torch.get_num_threads())
            found, taken = timed(partial(PARTS[part], arguments.run or Path(scratch)))
            drawing = found.pop("drawing", None)
            show(console, part, found)
            console.print(f"{part}: {taken / 60:.1f} minutes on {before['cores']} cores, {before['cpu']}")
            if arguments.write:
                about = {"command": f"python benchmarks/text.py --part {part}", "machine": before,
                         "versions": versions(), "load_after": os.getloadavg()[0]}  # fmt: skip
                arguments.write.mkdir(parents=True, exist_ok=True)
                (arguments.write / f"{part}.json").write_text(json.dumps({**about, **found}, indent=1) + "\n")
                if drawing:
                    (arguments.write / f"{part}.svg").write_text(drawing, encoding="utf-8")


if __name__ == "__main__":
    main()
