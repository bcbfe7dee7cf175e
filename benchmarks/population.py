"""A population of small models, and how well the registry tells whose copy a model is.

    python benchmarks/population.py make [--seeds N] [--data FOLDER]

Eight architectures, each trained from N seeds (25), and ten altered copies of each network: 2,200
models with 25. They are kept in the cache folder and made once. Needs the extras `test` and
`bench`. Seeded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent))

from benchmarks.population_networks import MAKERS, derive, read_data, train_network
from lady_onnx.graph.loading import load_graph
from tests.helpers.real import CACHE

POPULATION = CACHE / "population"
"""Where the models lie; `index.jsonl` says of each what it is made of."""


def make_population(seeds: int) -> None:
    """Trains the networks and derives copies, those that lack."""
    POPULATION.mkdir(parents=True, exist_ok=True)
    data = read_data()
    for seed in range(seeds):
        for architecture in MAKERS:
            name = f"{architecture}-{seed:02}"
            lines = POPULATION / f"{name}.jsonl"
            if lines.exists():
                continue
            start = time.perf_counter()
            learner = train_network(architecture, seed, data)
            model = learner.export()
            load_graph(model).save(POPULATION / f"{name}.onnx", "population")
            entries = [{"file": f"{name}.onnx", "of": name, "relation": "itself", "what": "itself"}]
            for k, (relation, what, graph) in enumerate(derive(learner, model, seed, data)):
                file = f"{name}.{k}.onnx"
                graph.save(POPULATION / file, "population")
                entries.append({"file": file, "of": name, "relation": relation, "what": what})
            lines.write_text("".join(json.dumps(e) + "\n" for e in entries))
            print(f"{name}: {len(entries)} models, {time.perf_counter() - start:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("make",))
    parser.add_argument("--seeds", type=int, default=25)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    make_population(args.seeds)


if __name__ == "__main__":
    main()
