"""--precision auto: bfloat16 where the machine is faster in it, the same for a run that continues."""

import platform

import pytest
import torch
import transformers

from hf_lineage import LSTMConfig, LSTMForCausalLM
from hf_lineage.training import LineageTrainer, LineageTrainingArguments, precision, training_arguments
from hf_lineage.training.precision import cpu_has_bfloat16, faster_precision, gain_of_bfloat16, precision_before


CPU = torch.device("cpu")


@pytest.fixture
def machine(monkeypatch):
    """Makes this machine one whose choice is `chosen`; returns the devices that were asked about."""

    def choose(chosen):
        asked = []

        def faster(device):
            asked.append(device)
            return chosen, "as the test says"

        monkeypatch.setattr(training_arguments, "faster_precision", faster)
        return asked

    return choose


@pytest.mark.parametrize(("gain", "expected"), [(3.2, "bf16"), (1.4, "fp32"), (0.01, "fp32")])
def test_a_cpu_with_bfloat16_is_measured(monkeypatch, gain, expected):
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(precision, "gain_of_bfloat16", lambda: gain)
    chosen, reason = faster_precision(CPU)
    assert chosen == expected
    assert f"{gain:.1f} times" in reason


def test_a_cpu_without_bfloat16_is_not_measured(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for report in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.setattr(torch.cpu, report, lambda: False, raising=False)
    monkeypatch.setattr(precision, "gain_of_bfloat16", lambda: pytest.fail("timed"))
    assert faster_precision(CPU)[0] == "fp32"


def test_torch_says_what_the_cpu_has(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False, raising=False)
    for has_amx in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda has_amx=has_amx: has_amx, raising=False)
        assert cpu_has_bfloat16() == has_amx
    # a torch without the reports
    monkeypatch.delattr(torch.cpu, "_is_amx_tile_supported")
    monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
    assert not cpu_has_bfloat16()
    # no report for this kind of CPU
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert cpu_has_bfloat16()


@pytest.mark.parametrize("has_it", [True, False])
def test_a_gpu_is_asked(monkeypatch, has_it):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: has_it)
    assert faster_precision(torch.device("cuda")) == (
        ("bf16", "Card multiplies in bfloat16") if has_it else ("fp32", "Card has no bfloat16")
    )


def test_other_devices_compute_in_float32():
    assert faster_precision(torch.device("mps"))[0] == "fp32"


def test_the_measure_compares_the_same_product(monkeypatch):
    seen, linear = [], torch.nn.functional.linear

    def recorded(x, weight):
        seen.append((x.dtype, x.shape, weight.shape))
        return linear(x, weight)

    monkeypatch.setattr(torch.nn.functional, "linear", recorded)
    assert gain_of_bfloat16() > 0
    assert {dtype for dtype, *_ in seen} == {torch.float32, torch.bfloat16}
    assert len({tuple(shapes) for _, *shapes in seen}) == 1


@pytest.mark.parametrize("chosen", ["bf16", "fp32"])
def test_auto_is_what_the_machine_says(machine, tmp_path, chosen):
    asked = machine(chosen)
    args = LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, precision="auto")
    assert (args.precision, args.bf16, asked) == (chosen, chosen == "bf16", [CPU])
    assert args.precision_reason == "as the test says"


@pytest.mark.parametrize(
    ("given", "bf16", "fp16"),
    [
        ({"precision": "bf16"}, True, False),
        ({"precision": "fp32"}, False, False),
        ({}, False, False),
        ({"bf16": True}, True, False),
        ({"bf16": True, "precision": "auto"}, True, False),
        ({"bf16": True, "precision": "bf16"}, True, False),
        ({"fp16": True}, False, True),
    ],
    ids=str,
)
def test_what_is_given_is_not_asked(machine, tmp_path, given, bf16, fp16):
    asked = machine("fp32" if bf16 else "bf16")
    args = LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **given)
    assert (args.bf16, args.fp16, args.precision_reason, asked) == (bf16, fp16, None, [])


def test_the_launcher_may_say_it(machine, monkeypatch, tmp_path):
    asked = machine("fp32")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    args = LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, precision="auto")
    assert (args.bf16, args.precision, asked) == (True, "bf16", [])


@pytest.mark.parametrize("given", [{"precision": "fp32", "bf16": True}, {"precision": "bf16", "fp16": True}], ids=str)
def test_two_precisions_are_refused(tmp_path, given):
    with pytest.raises(ValueError, match="precision is"):
        LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **given)


def train(output_dir, max_steps, **given):
    """A run of a tiny LSTM, with a checkpoint every second step -> its arguments."""
    args = LineageTrainingArguments(
        output_dir=str(output_dir),
        use_cpu=True,
        max_steps=max_steps,
        save_steps=2,
        per_device_train_batch_size=2,
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        **{"precision": "auto"} | given,
    )
    data = [{"input_ids": torch.arange(i, i + 5), "labels": torch.arange(i, i + 5)} for i in range(8)]
    trainer = LineageTrainer(LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8)), args, train_dataset=data)
    trainer.train(True if given.get("resume_from_checkpoint") else None)
    return args


@pytest.mark.parametrize("chosen", ["bf16", "fp32"])
def test_a_run_that_continues_keeps_its_precision(machine, tmp_path, capsys, chosen):
    machine(chosen)
    train(tmp_path, 2)
    assert f"precision {chosen} (as the test says)" in capsys.readouterr().out
    assert precision_before(tmp_path) == chosen
    # another machine, which would choose otherwise
    asked = machine("fp32" if chosen == "bf16" else "bf16")
    args = train(tmp_path, 4, resume_from_checkpoint="true", ignore_changed=["max_steps"])
    assert (args.precision, args.bf16, asked) == (chosen, chosen == "bf16", [])
    assert f"precision {chosen} (as in the checkpoint)" in capsys.readouterr().out
    # and another one named by hand is refused, as every setting is
    with pytest.raises(ValueError, match="bf16=" + str(chosen == "bf16")):
        train(
            tmp_path,
            6,
            resume_from_checkpoint="true",
            ignore_changed=["max_steps"],
            precision="fp32" if chosen == "bf16" else "bf16",
        )


def test_a_new_run_in_the_folder_asks_again(machine, tmp_path):
    machine("bf16")
    train(tmp_path, 2)
    asked = machine("fp32")
    args = LineageTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, overwrite_output_dir=True, precision="auto"
    )
    assert (args.precision, asked) == ("fp32", [CPU])


def test_a_checkpoint_without_a_seal_says_nothing(machine, tmp_path):
    (tmp_path / "checkpoint-7").mkdir()
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "checkpoint-5" / "seal.json").write_text("{}")
    assert precision_before(tmp_path) is None


def test_processes_that_chose_differently_are_refused(machine, tmp_path, monkeypatch):
    machine("fp32")
    args = LineageTrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    trainer = LineageTrainer(LSTMForCausalLM(LSTMConfig(vocab_size=20, hidden_size=8)), args, train_dataset=[{}])
    monkeypatch.setattr(trainer.accelerator, "gather", lambda flags: torch.cat([flags, 1 - flags]))
    with pytest.raises(ValueError, match="--precision"):
        trainer.train()


@pytest.mark.parametrize(
    ("place", "has_tf32", "tf32", "expected"),
    [("cuda", True, None, [True]), ("cuda", True, False, [False]), ("cuda", False, None, []), ("cpu", True, None, [])],
)
def test_float32_products_use_tf32_on_a_gpu_that_has_it(monkeypatch, tmp_path, place, has_tf32, tf32, expected):
    asked = []
    for module in (training_arguments, transformers.training_args):
        monkeypatch.setattr(module, "enable_tf32", asked.append)
        monkeypatch.setattr(module, "is_torch_tf32_available", lambda: has_tf32)
    args = LineageTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    asked.clear()
    monkeypatch.setattr(LineageTrainingArguments, "device", torch.device(place))
    args.tf32 = tf32
    args.__post_init__()
    assert asked == expected


def test_adamw_is_fused_by_default(tmp_path):
    model = LSTMForCausalLM(LSTMConfig(vocab_size=5, hidden_size=4, num_hidden_layers=1))
    args = LineageTrainingArguments(str(tmp_path), use_cpu=True, report_to="none")
    optimizer = LineageTrainer(model, args).create_optimizer()
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.defaults["fused"]
