"""What verifying a model's files costs when it is loaded, and how soon a configuration of absurd size is refused.

    python benchmarks/loading.py
    python benchmarks/loading.py --rounds 9

BERT-base (440 MB of fp32). Loading alone maps the file and reads almost nothing, so its first verification, which
reads everything (SHA-256, and a search for NaN), costs a multiple of it; later loads of an untouched file verify
nothing. The second table has whole processes, with the imports. Times are medians of rounds in turns.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path


os.environ.setdefault("OMP_NUM_THREADS", "1")

ABSURD = {"num_hidden_layers": 999, "vocab_size": 9_999_999, "intermediate_size": 1_000_000, "hidden_size": 49_152}
KINDS = ("verify=False", "first verification", "later loads")
LOAD = """
import sys
import hf_lineage
hf_lineage.BERTModel.from_pretrained(sys.argv[1])
"""


def load_in_turns(folder, rounds):
    """Kind -> [(CPU-seconds, seconds)] of from_pretrained."""
    import hf_lineage

    times = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            if kind == KINDS[1]:
                # what an earlier round has found whole
                shutil.rmtree(Path(os.environ["HF_HOME"]) / "hf_lineage", ignore_errors=True)
            cpu, wall = time.process_time(), time.perf_counter()
            hf_lineage.BERTModel.from_pretrained(folder, verify=kind != KINDS[0])
            times[kind].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def run_in_turns(folder, rounds):
    """Kind -> [(CPU-seconds, seconds)] of a process that imports the package and loads the model."""
    times = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            for kind in KINDS:
                changed = {"HF_LINEAGE_VERIFY": "0" if kind == KINDS[0] else "1", "HF_HOME": home}
                before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
                command = [sys.executable, "-c", LOAD, str(folder)]
                subprocess.run(command, check=True, capture_output=True, env=os.environ | changed)
                wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                times[kind].append((cpu, wall))
    return times


def show(title, times):
    print(f"\n{title}: CPU-seconds (seconds)")
    for kind, measured in times.items():
        cpu, wall = (statistics.median(values) for values in zip(*measured, strict=True))
        print(f"  {kind:<20} {cpu:6.3f} ({wall:.3f})")


def refuse(folder, model_class):
    """Prints how long a configuration with one absurd size takes to be refused."""
    from huggingface_hub.errors import StrictDataclassError

    fields = json.loads((folder / "config.json").read_text())
    for name in ABSURD.keys() & fields.keys():
        (folder / "config.json").write_text(json.dumps(fields | {name: ABSURD[name]}))
        peak, cpu = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        try:
            model_class.from_pretrained(folder)
        except (ValueError, StrictDataclassError):
            cpu = time.process_time() - cpu
            added = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
            print(f"  {model_class.__name__}, {name} {ABSURD[name]:,}: {cpu:.3f}, {added:.0f} MB")
        else:
            print(f"  {model_class.__name__}, {name} {ABSURD[name]:,}: not refused")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        # read when the package is imported
        os.environ["HF_HOME"] = str(Path(temporary) / "home")
        import hf_lineage

        folder = Path(temporary) / "bert"
        hf_lineage.BERTModel(hf_lineage.BERTConfig()).save_pretrained(folder)
        # files so new that they could change within a tick of the clock are verified each time
        time.sleep(3)
        show("from_pretrained", load_in_turns(folder, rounds))
        show("python, imports and from_pretrained", run_in_turns(folder, rounds))
        print("\nrefusing an absurd size: CPU-seconds, added memory")
        refuse(folder, hf_lineage.BERTModel)
        hf_lineage.LSTMForCausalLM(hf_lineage.LSTMConfig()).save_pretrained(Path(temporary) / "lstm")
        refuse(Path(temporary) / "lstm", hf_lineage.LSTMForCausalLM)


if __name__ == "__main__":
    main()
