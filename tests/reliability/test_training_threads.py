"""Four threads share one model or pipeline, four processes one corpus; a killed worker ends the run."""

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from transformers import default_data_collator

from hf_lineage import GRUConfig, GRUForCausalLM
from hf_lineage.data import ContiguousBlocks, encode_corpus, load_splits
from hf_lineage.tokenization import causal_tokenizer
from hf_lineage.training import LineageTrainer
from hf_lineage.training.run_settings import digest_of
from tests.models.common_table import tensors
from tests.models.stations import HEADS, STATIONS, TABLES
from tests.training.test_trainers import arguments, stream


ONE_HEAD_EACH = [(name, TABLES[name].heads[-1]) for name in STATIONS]
OF_STATIONS = [each for each in HEADS if each[0] in STATIONS]
TASKS = {
    "AutoModel": ("feature-extraction", ()),
    "AutoModelForCausalLM": ("text-generation", ()),
    "AutoModelForSequenceClassification": ("text-classification", ()),
    "AutoModelForTokenClassification": ("token-classification", ()),
    "AutoModelForMaskedLM": ("fill-mask", ()),
}


@pytest.fixture
def hasty_threads():
    """Threads take turns a thousand times more often than usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


def in_four_threads(answer, questions, repeats):
    """Answers of one thread and of four that ask at the same time."""
    alone = [answer(question) for question in questions]
    with ThreadPoolExecutor(4) as pool:
        return alone * repeats, list(pool.map(answer, questions * repeats))


def check_model(name, head):
    table = TABLES[name]
    model, inputs = table.model(head).eval(), table.inputs(head)
    rows = len(next(iter(inputs.values())))
    questions = [
        {key: value[:size] if isinstance(value, torch.Tensor) else value for key, value in inputs.items()}
        for size in range(1, rows + 1)
    ]

    @torch.no_grad()
    def answer(question):
        return tensors(tuple(model(**question).values()))

    for one, other in zip(*in_four_threads(answer, questions, 6), strict=True):
        assert len(one) == len(other)
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(("name", "head"), ONE_HEAD_EACH)
def test_four_threads_share_a_model(hasty_threads, name, head):
    check_model(name, head)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "head"), OF_STATIONS)
def test_four_threads_share_every_head(hasty_threads, name, head):
    check_model(name, head)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "head"),
    [
        each
        for each in HEADS
        if each[0] in STATIONS and each[1] in TASKS and TABLES[each[0]].token_input == "input_ids"
    ],
)
def test_four_threads_share_a_pipeline(hasty_threads, tiny_tokenizer, name, head):
    table, tokenizer = TABLES[name], tiny_tokenizer
    task, options = TASKS[head]
    if head == "AutoModelForCausalLM":
        tokenizer = causal_tokenizer(tokenizer)
        options = {"max_new_tokens": 3, "do_sample": False}
    model = table.model(head, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id)
    pipe = transformers.pipeline(task, model=model, tokenizer=tokenizer, device="cpu")
    mask = f" {tokenizer.mask_token}" if task == "fill-mask" else ""
    texts = [text + mask for text in ("The dog", "Ada watches the quiet river", "Vera paints")]
    alone, together = in_four_threads(lambda text: repr(pipe(text, **dict(options))), texts, 6)
    assert alone == together


@pytest.mark.reliability("A18")
def test_four_processes_load_one_corpus_at_once(tmp_path, tiny_corpus, tiny_tokenizer):
    (tmp_path / "train.txt").write_text("\n".join(tiny_corpus), encoding="utf-8")
    tokenizer, cache = causal_tokenizer(tiny_tokenizer), os.environ["HF_HOME"]
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                corpora = load_splits(str(tmp_path))
                streams = [encode_corpus(corpora[split], tokenizer).tokens for split in ("train", "validation")]
                (tmp_path / f"{number}.digest").write_text(digest_of(streams))
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4, cache
    assert len({path.read_text() for path in tmp_path.glob("*.digest")}) == 1


class Deadly(ContiguousBlocks):
    """Kills the DataLoader worker that reads its fifth example."""

    def __getitem__(self, position):
        if position == 4 and torch.utils.data.get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(position)


@pytest.mark.reliability("A14")
def test_a_killed_worker_ends_the_run(tmp_path):
    trainer = LineageTrainer(
        GRUForCausalLM(GRUConfig(vocab_size=30, hidden_size=8)),
        arguments(tmp_path, dataloader_num_workers=1, per_device_train_batch_size=2),
        train_dataset=Deadly(stream(), 5),
        data_collator=default_data_collator,
    )
    with pytest.raises(RuntimeError, match=r"DataLoader worker (\(pid(\(s\))? \d+\) )?.*(Killed|exited)"):
        trainer.train()


@pytest.mark.reliability("A14")
@pytest.mark.parametrize("error", [EOFError, ConnectionResetError])
def test_a_worker_killed_while_it_hands_over_a_batch_is_named(tmp_path, monkeypatch, error):
    trainer = LineageTrainer(
        GRUForCausalLM(GRUConfig(vocab_size=30, hidden_size=8)),
        arguments(tmp_path, dataloader_num_workers=1, per_device_train_batch_size=2),
        train_dataset=ContiguousBlocks(stream(), 5),
        data_collator=default_data_collator,
    )

    def killed(*args):
        raise error

    # where a worker's death cuts torch's connection to it
    monkeypatch.setattr(torch.utils.data.dataloader._MultiProcessingDataLoaderIter, "_try_get_data", killed)
    with pytest.raises(RuntimeError, match="DataLoader worker exited .* smaller dataloader_num_workers than 1"):
        trainer.train()
