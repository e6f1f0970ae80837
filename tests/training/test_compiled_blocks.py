"""Compiled blocks: the same losses, gradients and names; a choice that runs keep; no stop where the compiler fails."""

import copy
import json

import pytest
import torch
from torch.testing import assert_close

from hf_lineage import GPTForCausalLM, LSTMConfig, LSTMForCausalLM
from hf_lineage.training import LineageTrainer, LineageTrainingArguments, compiled_blocks
from hf_lineage.training.compiled_blocks import CompiledBlocks, blocks_of, compiled_before
from tests.models.packed_cases import PACKED, loss_and_gradients, packed_case


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """What the graphs compute, without the seconds of inductor."""
    torch.compiler.reset()
    monkeypatch.setitem(compiled_blocks.OPTIONS, "backend", "aot_eager")


def case(name: str):
    model, batch = packed_case(name)
    # as Trainer does
    model.config.use_cache = False
    return model, batch


def check_like_eager(name: str):
    model, batch = case(name)
    before, names = loss_and_gradients(model, batch), list(model.state_dict())
    blocks = CompiledBlocks(model)
    assert len(blocks.blocks) == (3 if name == "Transformer" else 2)
    with blocks.compiled():
        assert list(model.state_dict()) == names
        assert_close(loss_and_gradients(model, batch), before, rtol=1e-5, atol=1e-6)
        # copies, as for averages of weights, are plain
        assert not any(block._compiled_call_impl for block in blocks_of(copy.deepcopy(model)))
    assert not any(block._compiled_call_impl for block in blocks.blocks)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKED)
def test_every_station_is_as_before(name):
    check_like_eager(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BERT", "GPT"])
def test_inductor_agrees(name, monkeypatch):
    monkeypatch.setitem(compiled_blocks.OPTIONS, "backend", "inductor")
    check_like_eager(name)


@pytest.mark.slow
def test_gradient_checkpointing_is_as_before():
    model, batch = case("GPT")
    before = loss_and_gradients(model, batch)
    model.activation_checkpointing_enable()
    with CompiledBlocks(model).compiled():
        assert_close(loss_and_gradients(model, batch), before, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_batches_of_other_lengths_need_few_versions():
    """Padded and packed, of 1 to 12 texts, and evaluations, which run as they are."""
    model, _ = case("BERT")
    with CompiledBlocks(model).compiled():
        for number in range(1, 13):
            ids = torch.randint(3, 30, (number, 5 + number))
            mask = (torch.arange(5 + number) < torch.randint(2, 5 + number, (number, 1))).long()
            model.train()(input_ids=ids, labels=ids, attention_mask=mask).loss.backward()
            lengths = torch.arange(2, 2 + number)
            bounds = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).int()
            packed = torch.randint(3, 30, (1, int(lengths.sum())))
            model(input_ids=packed, labels=packed, cu_seq_lens_q=bounds).loss.backward()
            with torch.no_grad():
                model.eval()(input_ids=ids, labels=ids, attention_mask=mask)
        counters = torch._dynamo.utils.counters
        # of 24 kinds of batches; one text and one token are cases of their own
        assert counters["stats"]["unique_graphs"] <= 12
        assert not counters["graph_break"]


def test_others_have_nothing_to_compile():
    assert blocks_of(LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8))) == []


def new_trainer(folder, steps: int = 4, **settings) -> LineageTrainer:
    model, _ = case("GPT")
    options = {"output_dir": str(folder), "use_cpu": True, "max_steps": steps, "save_steps": 2, "logging_steps": 1}
    options |= {"per_device_train_batch_size": 2, "report_to": "none", "disable_tqdm": True}
    # Adam makes whole steps of the rounding errors of the keys' biases
    options |= {"optim": "sgd", "learning_rate": 0.1, "lr_scheduler_type": "constant"}
    args = LineageTrainingArguments(**options | settings)
    generator = torch.Generator().manual_seed(1)
    rows = torch.randint(3, 30, (8, 6), generator=generator)
    return LineageTrainer(model, args, train_dataset=[{"input_ids": ids, "labels": ids} for ids in rows])


def losses(trainer) -> list[float]:
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.slow
def test_a_run_trains_saves_and_continues_as_without(tmp_path, capsys):
    plain = new_trainer(tmp_path / "plain")
    plain.train()
    assert plain.args.compile_blocks == "never"
    new_trainer(tmp_path / "compiled", 2, compile_blocks="always").train()
    assert "compiles 2 blocks\n" in capsys.readouterr().out
    settings = {"ignore_changed": ["max_steps"], "resume_from_checkpoint": "true"}
    compiled = new_trainer(tmp_path / "compiled", **settings)
    # auto, as in the checkpoint
    assert compiled.args.compile_blocks == "always"
    compiled.train(True)
    assert "compiles 2 blocks (as in the checkpoint)" in capsys.readouterr().out
    assert losses(compiled) == pytest.approx(losses(plain), abs=1e-5)
    assert_close(compiled.model.state_dict(), plain.model.state_dict(), rtol=1e-4, atol=1e-5)
    saved = GPTForCausalLM.from_pretrained(tmp_path / "compiled" / "checkpoint-4").state_dict()
    assert_close(saved, {**compiled.model.state_dict()}, rtol=0, atol=0)
    # and the other way named by hand is refused, as every setting is
    with pytest.raises(ValueError, match="compile_blocks='always'"):
        new_trainer(tmp_path / "compiled", 6, compile_blocks="never", **settings).train(True)


def test_a_run_continues_where_the_compiler_fails(tmp_path, monkeypatch, caplog):
    def fails(graph, inputs):
        raise OSError("no compiler here")

    monkeypatch.setitem(compiled_blocks.OPTIONS, "backend", fails)
    plain, broken = new_trainer(tmp_path / "plain"), new_trainer(tmp_path / "broken", compile_blocks="always")
    plain.train()
    broken.train()
    assert losses(broken) == losses(plain)
    warnings = [each.getMessage() for each in caplog.records if "cannot be compiled" in each.getMessage()]
    assert len(warnings) == 1
    assert "no compiler here" in warnings[0]


@pytest.mark.parametrize("settings", [{}, {"torch_compile": True}], ids=str)
def test_a_cpu_does_not_compile_by_itself(tmp_path, settings):
    args = LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **settings)
    assert args.compile_blocks == "never"


def test_a_gpu_with_triton_compiles_by_itself(monkeypatch):
    found = compiled_blocks.importlib.util.find_spec
    for is_there in (True, False):
        monkeypatch.setattr(
            compiled_blocks.importlib.util,
            "find_spec",
            lambda n, is_there=is_there: is_there or None if n == "triton" else found(n),
        )
        assert compiled_blocks.compiling_pays(torch.device("cuda"))[0] is is_there
        assert not compiled_blocks.compiling_pays(torch.device("cpu"))[0]


def test_runs_of_before_do_not_compile(tmp_path):
    assert compiled_before(tmp_path) is None
    for number, content in (("3", {"run": {}}), ("5", {"run": {"compile_blocks": "always"}}), ("7", {})):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "seal.json").write_text(json.dumps({"files": {}, **content}))
    assert compiled_before(tmp_path) is True
    assert compiled_before(tmp_path, tmp_path / "checkpoint-3") is False
