r"""Run EleutherAI's lm-evaluation-harness on a causal language model, offline, on its tasks and on minimal pairs.

    python recipes/evaluate_harness.py --model_name_or_path runs/gpt --pairs blimp/ --output_dir runs/harness
    python recipes/evaluate_harness.py --model_name_or_path runs/lstm --tasks_dir my_tasks/ --tasks my_task \
        --output_dir runs/harness

`pairs` is a jsonl file, or a folder of them, with the fields sentence_good, sentence_bad and UID (BLiMP). Each UID
becomes a task in output_dir/tasks, a YAML file that reads a file beside it; the harness itself opens it later too:
`lm_eval --include_path output_dir/tasks`. `tasks` are names of such tasks in `tasks_dir` or, without it, of the
harness, whose data must then be in the cache. Leaves results.json. Needs the extra harness.
"""

import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from transformers import AutoModelForCausalLM

import hf_lineage  # noqa: F401 - registers the stations
from hf_lineage.arguments import parse, run, saved_config, tokenizer_of_model
from hf_lineage.data import pair_files, read_labelled_file
from hf_lineage.files import json_text, write_json, write_text
from hf_lineage.training import Results, last_lines, page_command, prepare_output_dir


@dataclass
class HarnessArguments:
    """Which model and which tasks."""

    model_name_or_path: str = field(metadata={"help": "A causal language model (folder or Hub name)."})
    output_dir: str = field(metadata={"help": "Folder for results.json and the tasks of the pairs."})
    pairs: str | None = field(default=None, metadata={"help": "A .jsonl or .jsonl.gz file, or a folder of them."})
    tasks_dir: str | None = field(default=None, metadata={"help": "A folder with YAML files of other tasks."})
    tasks: list[str] = field(default_factory=list, metadata={"help": "Names of other tasks."})
    limit: int | None = field(default=None, metadata={"help": "Use only the first rows of each task."})
    batch_size: int = field(default=64, metadata={"help": "Texts per batch."})
    device: str = field(default="cpu", metadata={"help": "Device of the model, such as cuda."})
    overwrite_output_dir: bool = field(default=False, metadata={"help": "Replace the results of an older run."})

    def __post_init__(self):
        if self.pairs is None and not self.tasks:
            raise ValueError("give pairs, tasks or both")


ARGUMENTS = (HarnessArguments,)


def main():
    # 1. arguments
    (args,) = parse(*ARGUMENTS, description=__doc__)
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise ValueError(f"the harness needs {error.name}: pip install 'hf_lineage[harness]'") from error
    config = saved_config(args.model_name_or_path)
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise ValueError(f"model_name_or_path is {args.model_name_or_path}: {config.model_type} is not causal")
    tokenizer = tokenizer_of_model(args.model_name_or_path)
    output_dir = prepare_output_dir(args.output_dir, args.overwrite_output_dir)

    # 2. tasks: of minimal pairs one for each phenomenon
    names = list(args.tasks)
    if args.pairs is not None:
        names += write_tasks(Path(args.pairs), output_dir / "tasks")
    folders = [str(folder) for folder in (args.tasks_dir, args.pairs and output_dir / "tasks") if folder]
    # the harness's own tasks are thousands of files, which take half a minute to read
    manager = TaskManager(include_path=folders, include_defaults=bool(args.tasks) and args.tasks_dir is None)
    if unknown := sorted(set(names) - set(manager.all_tasks)):
        raise ValueError(f"tasks has {', '.join(unknown)}, which {args.tasks_dir or 'the harness'} lacks")

    # 3. model
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise ValueError(f"the tokenizer of {args.model_name_or_path} has no bos_token or eos_token to begin a text")
    model = AutoModelForCausalLM.from_pretrained(args.model_name_or_path).to(args.device).eval()
    reader = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=args.batch_size)

    # 4. evaluate
    found = simple_evaluate(
        reader, tasks=names, task_manager=manager, limit=args.limit, bootstrap_iters=0, log_samples=False
    )
    results = Results(output_dir / "results.json", model_type=config.model_type, parameters=model.num_parameters())
    accuracies = []
    for name in names:
        scores = {key.removesuffix(",none"): value for key, value in found["results"][name].items()}
        results[name] = {key: value for key, value in scores.items() if isinstance(value, float)}
        accuracies += [scores["acc"]] if "acc" in scores else []
    said = f"{len(names)} tasks"
    if accuracies:
        results["accuracy"] = sum(accuracies) / len(accuracies)
        said = f"mean accuracy {results['accuracy']:.4f} of {said}"
    print(last_lines(output_dir, said, page_command(results.path)))


def write_tasks(pairs: Path, folder: Path) -> list[str]:
    """Writes a task and its rows for each phenomenon of the pairs, and gives the names.

    A start mark goes before each sentence, and no blank. Accuracy is that of `measure_minimal_pairs`, but that equally
    likely sentences count as right.
    """
    by_name = defaultdict(list)
    for file in pair_files(pairs):
        rows = read_labelled_file(file)
        columns = [rows.texts(name) for name in ("sentence_good", "sentence_bad", "UID")]
        for good, bad, phenomenon in zip(*columns, strict=True):
            name = "pairs_" + re.sub(r"\W+", "_", phenomenon)
            by_name[name].append(json_text({"sentence_good": good, "sentence_bad": bad}))
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in by_name.items():
        path = folder / f"{name}.jsonl"
        write_text(path, "\n".join(rows) + "\n")
        # JSON is YAML
        write_json(
            folder / f"{name}.yaml",
            {
                "task": name,
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"validation": str(path.resolve())}},
                "output_type": "multiple_choice",
                "validation_split": "validation",
                "doc_to_text": "",
                "doc_to_target": 0,
                "doc_to_choice": "{{[sentence_good, sentence_bad]}}",
                "target_delimiter": "",
                "num_fewshot": 0,
                "metric_list": [{"metric": "acc"}],
            },
        )
    return sorted(by_name)


if __name__ == "__main__":
    run(main)
