"""What a checkpoint answers to the inputs stored with it; run as a script, it opens them without hf_lineage.

`python answers.py FOLDER...` opens each folder by its own code (trust_remote_code), compares and prints its name.
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file


EXPECTED = "expected.safetensors"
EXPECTED_TEXTS = "expected.json"
DROPOUTS = ("dropout", "dropout_prob")
GENERATIVE = ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM")


def auto_class(folder: Path) -> str:
    """The Auto class of the head that was saved."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    [architecture] = config["architectures"]
    [name] = [auto for auto, reference in config["auto_map"].items() if reference.endswith(f".{architecture}")]
    return name


def part(tensors: dict, name: str) -> dict:
    return {key.removeprefix(f"{name}."): tensor for key, tensor in tensors.items() if key.startswith(f"{name}.")}


@torch.no_grad()
def model_answers(model, given: dict[str, torch.Tensor], auto: str) -> dict[str, torch.Tensor]:
    """Every tensor of the output for `inputs.*`, the losses with `labels.*` too, and generated ids."""
    inputs, labels = part(given, "inputs"), part(given, "labels")
    output = model(**inputs)
    answers = {f"outputs.{name}": value for name, value in output.items() if isinstance(value, torch.Tensor)}
    if labels:
        answers["loss"] = model(**inputs, **labels).loss
        if not any(chance for name, chance in vars(model.config).items() if name.endswith(DROPOUTS)):
            answers["training_loss"] = model.train()(**inputs, **labels).loss
            model.eval()
    if auto in GENERATIVE:
        # without padding: a causal model would go on from it
        answers["generated"] = model.generate(inputs["input_ids"][:1], max_new_tokens=5, num_beams=2, do_sample=False)
    return {name: tensor.contiguous() for name, tensor in answers.items()}


def open_model(folder: Path, **options):
    """Opens the model by the Auto class of the saved head; every saved weight must be used."""
    auto = getattr(transformers, auto_class(folder))
    model, info = auto.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), info
    return model.eval()


def assert_same_answers(model, folder: Path):
    expected = load_file(folder / EXPECTED)
    found = model_answers(model, expected, auto_class(folder))
    for name, tensor in expected.items():
        if name.startswith(("inputs.", "labels.")):
            continue
        if auto_class(folder).endswith("QuestionAnswering") and "loss" in name:
            # before, padding counted as a possible answer
            continue
        # not bit by bit: other machines sum in another order (AVX2 differs from AVX-512 by up to 3e-6)
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}")


def tokenizer_answers(tokenizer, texts: list[str]) -> dict:
    """A padded batch, the first two texts as a pair, and what is decoded of both."""
    batch, pair = tokenizer(texts, padding=True), tokenizer(*texts[:2])
    rows = [*batch["input_ids"], pair["input_ids"]]
    return {
        "batch": dict(batch),
        "pair": dict(pair),
        "decoded": [tokenizer.decode(row) for row in rows],
        "text": [tokenizer.decode(row, skip_special_tokens=True) for row in rows],
    }


def assert_same_tokens(tokenizer, folder: Path):
    expected = json.loads((folder / EXPECTED_TEXTS).read_text(encoding="utf-8"))
    for name, found in tokenizer_answers(tokenizer, expected["texts"]).items():
        assert found == expected["answers"][name], f"{name}: {found}, not {expected['answers'][name]}"


def main():
    sys.modules["hf_lineage"] = None  # makes any import of it fail
    torch.set_num_threads(1)
    for folder in map(Path, sys.argv[1:]):
        if (folder / EXPECTED).exists():
            assert_same_answers(open_model(folder, trust_remote_code=True), folder)
        else:
            assert_same_tokens(transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=True), folder)
        print(folder.name)


if __name__ == "__main__":
    main()
