"""TranslationTrainer: label smoothing, schedule, batches dealt to parts, and what it refuses."""

import copy

import pytest
import torch
from torch.nn.functional import kl_div
from torch.testing import assert_close
from transformers.trainer_pt_utils import LabelSmoother

from hf_lineage import (
    RNNSearchConfig,
    RNNSearchForConditionalGeneration,
    Seq2SeqConfig,
    Seq2SeqForConditionalGeneration,
    TransformerConfig,
    TransformerForConditionalGeneration,
)
from hf_lineage.data import PairCollator, TokenBuckets, TranslationPairs, grammar_corpus
from hf_lineage.metrics import bleu_of_generated
from hf_lineage.tokenization import train_word_level, translation_tokenizer
from hf_lineage.training import TranslationTrainer, TranslationTrainingArguments
from hf_lineage.training.schedules import truth_share
from hf_lineage.training.translation_trainer import own_word_coins


@pytest.fixture(scope="module")
def tokenizer():
    corpus = grammar_corpus("train", 200)
    return translation_tokenizer(train_word_level([*corpus["source"], *corpus["target"]], show_progress=False))


@pytest.fixture(scope="module")
def pairs(tokenizer):
    return TranslationPairs(grammar_corpus("train", 200), tokenizer, show_progress=False)


def new_trainer(tmp_path, pairs, tokenizer, parts=1, model=None, packing=False, **settings):
    torch.manual_seed(0)
    model = model or TransformerForConditionalGeneration(
        TransformerConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            dropout=0.0,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.bos_token_id,
        )
    )
    defaults = {
        "max_steps": 4,
        "tokens_per_update": 128,
        "logging_steps": 1,
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "generation_max_length": 12,
    }
    args = TranslationTrainingArguments(output_dir=str(tmp_path), **defaults | settings)
    return TranslationTrainer(
        model=model,
        args=args,
        train_dataset=TokenBuckets(
            pairs,
            args.tokens_per_update,
            tokenizer.pad_token_id,
            parts,
            number_pairs=args.scheduled_sampling is not None,
            packing=packing,
        ),
        eval_dataset=TranslationPairs(grammar_corpus("validation", 12), tokenizer, show_progress=False),
        data_collator=PairCollator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        compute_metrics=bleu_of_generated(tokenizer, grammar_corpus("validation", 12)["target"][:]),
    )


def losses(trainer):
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


@pytest.mark.parametrize("over", ["all", "others"])
def test_smoothed_loss_is_the_cross_entropy_with_the_smoothed_distribution(tmp_path, pairs, tokenizer, over):
    trainer = new_trainer(tmp_path, pairs, tokenizer, label_smoothing_factor=0.3, label_smoothing_over=over)
    batch = PairCollator(tokenizer.pad_token_id)([pairs[0], pairs[1], pairs[2]])
    model = trainer.model.train()
    loss, outputs = trainer.compute_loss(model, dict(batch), return_outputs=True)
    size = outputs.logits.shape[-1]
    scored = batch["labels"] != -100
    wanted = torch.full((int(scored.sum()), size), 0.3 / (size if over == "all" else size - 1))
    labels = batch["labels"][scored][:, None]
    wanted.scatter_(1, labels, 0.7 + (0.3 / size if over == "all" else 0.0))
    log_p = outputs.logits[scored].log_softmax(-1)
    entropy = -(wanted * wanted.log()).sum(1).mean()
    assert_close(loss, kl_div(log_p, wanted, reduction="batchmean") + entropy)
    if over == "all":
        assert_close(loss, LabelSmoother(0.3)(outputs, batch["labels"]))
    # evaluation is not smoothed
    assert_close(trainer.compute_loss(model.eval(), dict(batch)), model(**batch).loss)


def test_evaluation_gives_the_plain_loss_and_bleu(tmp_path, pairs, tokenizer):
    smoothed = new_trainer(tmp_path, pairs, tokenizer, label_smoothing_factor=0.3).evaluate()
    plain = new_trainer(tmp_path, pairs, tokenizer).evaluate()
    assert smoothed["eval_loss"] == pytest.approx(plain["eval_loss"])
    assert 0 <= plain["eval_bleu"] < 20


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulated_parts_are_the_whole_batch(tmp_path, pairs, tokenizer, smoothing):
    whole = new_trainer(tmp_path, pairs, tokenizer, label_smoothing_factor=smoothing, optim="sgd", learning_rate=0.1)
    parts = new_trainer(
        tmp_path,
        pairs,
        tokenizer,
        parts=3,
        gradient_accumulation_steps=3,
        label_smoothing_factor=smoothing,
        optim="sgd",
        learning_rate=0.1,
    )
    whole.train()
    parts.train()
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    assert_close(dict(parts.model.named_parameters()), dict(whole.model.named_parameters()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("smoothing", "parts"), [(0.0, 1), (0.1, 3)])
def test_packed_pairs_train_as_padded_ones(tmp_path, pairs, tokenizer, smoothing, parts):
    settings = {"label_smoothing_factor": smoothing, "gradient_accumulation_steps": parts, "optim": "sgd"}
    padded, packed = (
        new_trainer(tmp_path, pairs, tokenizer, parts, packing=packing, learning_rate=0.1, **settings)
        for packing in (False, True)
    )
    for of_padded, of_packed in zip(padded.train_dataset, packed.train_dataset, strict=True):
        num_tokens = int((of_padded["labels"] != -100).sum())
        # a part without a row has one that is not scored
        assert of_packed["labels"].shape == (1, num_tokens or of_padded["labels"].numel())
    padded.train()
    packed.train()
    assert losses(packed) == pytest.approx(losses(padded), abs=1e-5)
    assert_close(dict(packed.model.named_parameters()), dict(padded.model.named_parameters()), atol=1e-6, rtol=1e-5)
    # evaluation pads
    assert packed.evaluate()["eval_loss"] == pytest.approx(padded.evaluate()["eval_loss"], abs=1e-5)


def test_packing_is_refused_by_recurrent_models(tmp_path, pairs, tokenizer):
    model = Seq2SeqForConditionalGeneration(
        Seq2SeqConfig(vocab_size=len(tokenizer), embedding_size=4, hidden_size=4, decoder_start_token_id=2)
    )
    with pytest.raises(ValueError, match="takes cu_seq_lens_q.*Seq2SeqForConditionalGeneration does not"):
        new_trainer(tmp_path, pairs, tokenizer, model=model, packing=True).train()


def test_schedule_is_the_papers(tmp_path, pairs, tokenizer):
    trainer = new_trainer(tmp_path, pairs, tokenizer, noam=True, warmup_steps=3, max_steps=5, learning_rate=0.01)
    trainer.train()
    rates = [row["learning_rate"] for row in trainer.state.log_history if "learning_rate" in row]
    # the rates that updates 1 to 5 are made with
    assert rates == pytest.approx([0.01 * factor for factor in (1 / 3, 2 / 3, 1, 0.75**0.5, 0.6**0.5)])


def test_beam_search_is_saved_with_the_model(tmp_path, pairs, tokenizer):
    trainer = new_trainer(
        tmp_path, pairs, tokenizer, generation_num_beams=4, generation_max_length=33, gnmt_length_penalty=0.6
    )
    trainer.evaluate()
    trainer.save_model(str(tmp_path / "saved"))
    saved = TransformerForConditionalGeneration.from_pretrained(tmp_path / "saved").generation_config
    assert (saved.num_beams, saved.max_length, saved.gnmt_length_penalty) == (4, 33, 0.6)


def test_the_evaluations_loss_is_a_mean_over_tokens(tmp_path, pairs, tokenizer):
    trainer = new_trainer(tmp_path, pairs, tokenizer, per_device_eval_batch_size=5)
    model, total, count = trainer.model.eval(), 0.0, 0
    for row in trainer.eval_dataset:
        batch = PairCollator(tokenizer.pad_token_id)([row])
        total += -model(**batch).logits.log_softmax(-1)[0].gather(1, batch["labels"][0][:, None]).sum().item()
        count += len(row["labels"])
    assert trainer.evaluate()["eval_loss"] == pytest.approx(total / count, rel=1e-5)
    metrics = trainer.predict(trainer.eval_dataset, metric_key_prefix="held_out").metrics
    assert metrics["held_out_loss"] == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("packing", "parts"), [(False, 1), (False, 3), (True, 1)])
def test_the_loss_summed_over_a_sentence_is_sutskevers(tmp_path, pairs, tokenizer, packing, parts):
    """Section 3.4: the gradient of an update is divided by its sentences, and cut where its norm exceeds a bound."""
    settings = {"max_steps": 2, "learning_rate": 0.1, "max_grad_norm": 5.0, "optim": "sgd"}
    settings |= {"sum_over_time": True, "gradient_accumulation_steps": parts}
    trainer = new_trainer(tmp_path, pairs, tokenizer, parts, packing=packing, **settings)
    by_hand = copy.deepcopy(trainer.model).train()
    padded = new_trainer(tmp_path, pairs, tokenizer).train_dataset
    norms, means = [], []
    for update in range(2):
        batch, total = padded[update], 0.0
        for source, mask, labels in zip(batch["input_ids"], batch["attention_mask"], batch["labels"], strict=True):
            labels = labels[labels != -100]
            logits = by_hand(input_ids=source[mask.bool()][None], labels=labels[None]).logits[0]
            total -= logits.log_softmax(-1).gather(1, labels[:, None]).sum()
        by_hand.zero_grad()
        (total / len(batch["labels"])).backward()
        norms.append(torch.nn.utils.clip_grad_norm_(by_hand.parameters(), 5.0).item())
        means.append(total.item() / (batch["labels"] != -100).sum().item())
        with torch.no_grad():
            for parameter in by_hand.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    assert max(norms) > 5
    trainer.train()
    assert losses(trainer) == pytest.approx(means, abs=1e-4)
    assert_close(dict(trainer.model.named_parameters()), dict(by_hand.named_parameters()), atol=1e-5, rtol=1e-4)


def test_smoothing_keeps_the_coverage_in_the_loss(tmp_path, pairs, tokenizer):
    losses = []
    for weight in (0.0, 0.5):
        torch.manual_seed(0)
        config = RNNSearchConfig(
            vocab_size=len(tokenizer), embedding_size=4, hidden_size=4, coverage=True, coverage_loss_weight=weight
        )
        model = RNNSearchForConditionalGeneration(config)
        trainer = new_trainer(tmp_path, pairs, tokenizer, model=model, label_smoothing_factor=0.1)
        batch = PairCollator(tokenizer.pad_token_id)([pairs[0], pairs[1]])
        losses.append(trainer.compute_loss(model.train(), dict(batch)))
    assert losses[1] > losses[0] + 0.01


def test_average_and_best_are_a_choice(tmp_path):
    with pytest.raises(ValueError, match="average_checkpoints.*load_best_model_at_end"):
        TranslationTrainingArguments(str(tmp_path), average_checkpoints=2, load_best_model_at_end=True)
    with pytest.raises(ValueError, match="tokens_per_update is 0"):
        TranslationTrainingArguments(str(tmp_path), tokens_per_update=0)


def test_data_of_other_parts_are_refused(tmp_path, pairs, tokenizer):
    for settings in ({"parts": 2}, {"per_device_train_batch_size": 2}, {"gradient_accumulation_steps": 2}):
        with pytest.raises(ValueError, match=r"this run needs TokenBuckets\(parts=[12]\)"):
            new_trainer(tmp_path, pairs, tokenizer, **settings).train()


def test_a_finished_run_ends_with_its_average_again(tmp_path, pairs, tokenizer):
    settings = {"save_strategy": "steps", "save_steps": 2, "average_checkpoints": 2}
    first = new_trainer(tmp_path, pairs, tokenizer, **settings)
    first.train()
    again = new_trainer(tmp_path, pairs, tokenizer, **settings)
    again.train(resume_from_checkpoint=True)
    assert again.state.global_step == 4
    assert_close(dict(again.model.named_parameters()), dict(first.model.named_parameters()), atol=0, rtol=0)
    last = TransformerForConditionalGeneration.from_pretrained(tmp_path / "checkpoint-4")
    assert not torch.equal(last.lm_head.weight, first.model.lm_head.weight)


def sampled_run(folder, pairs, tokenizer, parts=1, resume=None, **settings):
    """A Seq2Seq trained with half of its words its own, plain SGD, without dropout."""
    torch.manual_seed(0)
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id")}
    config = Seq2SeqConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        decoder_start_token_id=tokenizer.bos_token_id,
        **ids,
    )
    defaults = {"scheduled_sampling": "linear", "sampling_k": 0.9, "sampling_c": 0.1, "optim": "sgd"}
    trainer = new_trainer(
        folder,
        pairs,
        tokenizer,
        parts,
        Seq2SeqForConditionalGeneration(config),
        gradient_accumulation_steps=parts,
        **defaults | {"learning_rate": 0.5} | settings,
    )
    trainer.train(resume)
    return trainer


def same_model(found, expected):
    assert_close(dict(found.model.named_parameters()), dict(expected.model.named_parameters()), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_scheduled_sampling_of_accumulated_parts_is_the_whole_batchs(tmp_path, pairs, tokenizer, smoothing):
    whole = sampled_run(tmp_path, pairs, tokenizer, label_smoothing_factor=smoothing)
    parts = sampled_run(tmp_path, pairs, tokenizer, parts=3, label_smoothing_factor=smoothing)
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-5)
    same_model(parts, whole)


def test_scheduled_sampling_resumed_is_uninterrupted(tmp_path, pairs, tokenizer):
    whole = sampled_run(tmp_path, pairs, tokenizer, save_strategy="steps", save_steps=2)
    resumed = sampled_run(
        tmp_path, pairs, tokenizer, resume=str(tmp_path / "checkpoint-2"), save_strategy="steps", save_steps=2
    )
    assert losses(resumed) == losses(whole)
    for name, parameter in resumed.model.named_parameters():
        assert torch.equal(parameter, whole.model.get_parameter(name))


def test_scheduled_sampling_with_activation_checkpointing_is_the_same_run(tmp_path, pairs, tokenizer):
    plain = sampled_run(tmp_path, pairs, tokenizer)
    recomputed = sampled_run(tmp_path, pairs, tokenizer, activation_checkpointing=True)
    assert recomputed.model.is_activation_checkpointing
    assert losses(recomputed) == pytest.approx(losses(plain), abs=1e-6)
    same_model(recomputed, plain)


def test_all_true_words_are_teacher_forcing_and_own_ones_are_not(tmp_path, pairs, tokenizer):
    forced = sampled_run(tmp_path, pairs, tokenizer, scheduled_sampling=None)
    true = sampled_run(tmp_path, pairs, tokenizer, sampling_k=1.0, sampling_c=0.0)
    own = sampled_run(tmp_path, pairs, tokenizer, sampling_k=0.0)
    assert losses(true) == losses(forced)
    assert losses(own) != losses(forced)


def test_coins_are_a_function_of_seed_step_and_pair():
    pairs = torch.tensor([5, 2, 900])
    coins = own_word_coins(1, 7, pairs, 400, 0.3)
    assert torch.equal(coins, own_word_coins(1, 7, pairs, 400, 0.3))
    assert torch.equal(coins[1:2], own_word_coins(1, 7, pairs[1:2], 400, 0.3))
    # padding behind the target moves no coin
    assert torch.equal(coins[:, :50], own_word_coins(1, 7, pairs, 50, 0.3))
    assert not coins[:, 0].any()
    assert coins.float().mean() == pytest.approx(0.7, abs=0.05)
    for other in (own_word_coins(2, 7, pairs, 400, 0.3), own_word_coins(1, 8, pairs, 400, 0.3)):
        assert 0.3 < (coins[:, 1:] != other[:, 1:]).float().mean() < 0.54
    assert not own_word_coins(1, 7, pairs, 50, 1.0).any()
    assert own_word_coins(1, 7, pairs, 50, 0.0)[:, 1:].all()


def test_shares_of_true_words_are_the_papers():
    assert [truth_share("linear", i, 1.0, 0.25, 0.2) for i in range(5)] == [1.0, 0.75, 0.5, 0.25, 0.2]
    assert [truth_share("exponential", i, 0.5) for i in range(3)] == [1.0, 0.5, 0.25]
    # half at i = k ln k
    assert truth_share("inverse_sigmoid", 0, 100.0) == pytest.approx(100 / 101)
    assert truth_share("inverse_sigmoid", 460517, 1e5 / 1.0) == pytest.approx(1e5 / (1e5 + 2.718281828459045**4.60517))
    assert truth_share("inverse_sigmoid", 10**9, 2.0) == pytest.approx(0, abs=1e-300)


@pytest.mark.parametrize(
    ("schedule", "k", "c", "least"),
    [("linear", 1.5, 0, 0), ("linear", 1, -1, 0), ("exponential", 1.0, 0, 0), ("inverse_sigmoid", 0.5, 0, 0)]
    + [("linear", 1, 0, 2), ("cosine", 1, 0, 0)],
)
def test_bad_shares_are_refused(schedule, k, c, least):
    with pytest.raises(ValueError, match="must"):
        truth_share(schedule, 1, k, c, least)


def test_scheduled_sampling_needs_numbered_pairs(tmp_path, pairs, tokenizer):
    trainer = new_trainer(tmp_path, pairs, tokenizer, scheduled_sampling="linear")
    trainer.train_dataset.number_pairs = False
    with pytest.raises(ValueError, match="number_pairs"):
        trainer.train()
