"""BLEU (Papineni et al., 2002), computed by sacrebleu so that numbers compare with other people's (Post, 2018)."""

from collections.abc import Callable, Sequence

import evaluate
import numpy as np
from datasets import Features, Value
from transformers import EvalPrediction, PreTrainedTokenizerBase


class BLEU(evaluate.Metric):
    """Corpus BLEU of translations (`predictions`) against one reference each, untokenized text both.

    `tokenize` is sacrebleu's: "13a" (as the WMT campaigns), "zh", "char", "none", …; `lowercase` folds case. Gives
    bleu (0 to 100), brevity_penalty, and sacrebleu's `signature`, which belongs beside any number that is published.
    """

    def _info(self):
        features = Features({"predictions": Value("string"), "references": Value("string")})
        citation = "Post, 2018, A Call for Clarity in Reporting BLEU Scores"
        return evaluate.MetricInfo(description=type(self).__doc__, citation=citation, features=features)

    def _compute(self, predictions, references, tokenize="13a", lowercase=False):
        from sacrebleu.metrics import BLEU as SacreBLEU

        # force: no warning that a text looks tokenized, as those of models of whole words do
        metric = SacreBLEU(tokenize=tokenize, lowercase=lowercase, force=True)
        score = metric.corpus_score(predictions, [references])
        return {"bleu": score.score, "brevity_penalty": score.bp, "signature": str(metric.get_signature())}


def generated_texts(tokenizer: PreTrainedTokenizerBase, predictions: np.ndarray) -> list[str]:
    """The texts of generated ids [N, T], padded with -100 or the tokenizer's padding."""
    ids = np.where(predictions < 0, tokenizer.pad_token_id, predictions)
    return tokenizer.batch_decode(ids, skip_special_tokens=True)


def bleu_of_generated(
    tokenizer: PreTrainedTokenizerBase, references: Sequence[str], tokenize: str = "13a", lowercase: bool = False
) -> Callable[[EvalPrediction], dict[str, float]]:
    """A `compute_metrics` for Seq2SeqTrainer: {"bleu": …} of what the model generated, against the plain texts."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        texts = generated_texts(tokenizer, prediction.predictions)
        result = BLEU().compute(predictions=texts, references=references, tokenize=tokenize, lowercase=lowercase)
        return {"bleu": result["bleu"]}

    return compute
