"""What every test starts from: no network, an own cache, fixed seeds, one thread, a tiny corpus and tokenizer."""

import gc
import os
import random
import shutil
import tempfile
from pathlib import Path


# read when torch and transformers are imported, by this process and by those that tests start
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf_lineage_tests_")
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# each step of a bar would be a line of the log of a test that fails
os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
# models this small only lose to a second thread: tenfold where other processes are busy too
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import transformers

from hf_lineage.tokenization import train_wordpiece


# no test modules by their names, but their assertions shall say what differed all the same
pytest.register_assert_rewrite(
    *(f"tests.models.{path.stem}" for path in Path(__file__).parent.glob("models/common*.py"))
)

# prints the table of `make reliability`
pytest_plugins = ["tests.reliability.table"]

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_unconfigure():
    shutil.rmtree(os.environ["HF_HOME"], ignore_errors=True)


def pytest_collection_finish():
    """Hides modules and tests, which stay to the end, from the garbage collector.

    Trainer runs a full collection after each training, which takes half a second over all these objects.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def seed():
    """Seeds python, numpy and torch, so that a test gives the same numbers alone and among others."""
    transformers.set_seed(0)


@pytest.fixture
def load_reports(monkeypatch):
    """The reports of weights that transformers logs, one for each loading, None where there is nothing to report."""
    found = []
    monkeypatch.setattr(
        "transformers.modeling_utils.log_state_dict_report",
        lambda *, loading_info, **_: found.append(loading_info.create_loading_report()),
    )
    return found


@pytest.fixture(scope="session")
def shared_data():
    """The folder of optional data sets next to the checkout; without it, the test is skipped."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the optional data sets in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_corpus():
    """200 different English sentences from a small grammar: agreement, plurals, names and relative clauses."""
    draw = random.Random(0)
    sentences = set()
    while len(sentences) < 200:
        sentences.add(_sentence(draw))
    return sorted(sentences)


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_corpus):
    return train_wordpiece(tiny_corpus, vocab_size=200, show_progress=False)


NAMES = ["Ada", "Bruno", "Clara", "Emil", "Greta", "Hugo", "Ines", "Jonas", "Vera"]
NOUNS = ["baker", "bridge", "captain", "dog", "engine", "farmer", "garden", "lantern", "letter", "market", "river"]
ADJECTIVES = ["brave", "bright", "careful", "empty", "gentle", "golden", "narrow", "quiet", "yellow"]
VERBS = ["watch", "follow", "paint", "answer", "remember", "need", "visit"]
ADVERBS = ["slowly", "gladly", "often", "again", "quietly", "seldom"]
PLACES = ["near the harbour", "under the old tower", "in the valley", "behind the mill", "after the storm"]


def _noun_phrase(draw, plural):
    noun = draw.choice(NOUNS) + ("s" if plural else "")
    determiners = ["the", "some", "three", "our"] if plural else ["the", "every", "this", "our"]
    adjective = draw.choice(["", draw.choice(ADJECTIVES) + " "])
    return f"{draw.choice(determiners)} {adjective}{noun}"


def _sentence(draw):
    plural = draw.random() < 0.5
    subject = _noun_phrase(draw, plural) if plural or draw.random() < 0.6 else draw.choice(NAMES)
    ending = "" if plural else "s"
    if draw.random() < 0.3:
        subject += f" that {draw.choice(NAMES)} {draw.choice(VERBS)}ed"
    sentence = f"{subject} {draw.choice(VERBS)}{ending} {_noun_phrase(draw, draw.random() < 0.5)}"
    extra = draw.choice(["", f" {draw.choice(ADVERBS)}", f" {draw.choice(PLACES)}"])
    return f"{sentence[0].upper()}{sentence[1:]}{extra}."
