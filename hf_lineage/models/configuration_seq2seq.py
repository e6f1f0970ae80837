"""Configuration of Seq2Seq, in Sutskever's and Cho's forms."""

from huggingface_hub.dataclasses import strict

from .configuration_recurrent_seq2seq import RecurrentSeq2SeqConfig


@strict
class Seq2SeqConfig(RecurrentSeq2SeqConfig):
    """Sequence to sequence learning (Sutskever et al., 2014).

    New: one recurrent network reads the source into a state, a second one writes the target from it.

    The defaults are Sutskever's, except that source and target share one vocabulary size (see `sutskever`).

    Args:
        feed_context: decoder and readout read the source's summary at every step, as in `cho`; needs readout_size.
    """

    model_type = "lineage_seq2seq"
    auto_classes = {
        "AutoModel": "modeling_seq2seq.Seq2SeqModel",
        "AutoModelForSeq2SeqLM": "modeling_seq2seq.Seq2SeqForConditionalGeneration",
    }

    num_hidden_layers: int = 4
    reverse_source: bool = True
    feed_context: bool = False

    @classmethod
    def sutskever(cls, **changes) -> "Seq2SeqConfig":
        """Sutskever et al. (2014), section 3.4: 384 million parameters."""
        return cls(**{"vocab_size": 160_000, "decoder_vocab_size": 80_000} | changes)

    @classmethod
    def cho(cls, **changes) -> "Seq2SeqConfig":
        """Cho et al. (2014), section 4.1: one layer of 1,000 GRU units, 500 maxout units, matrices of rank 100."""
        settings = {
            "vocab_size": 15_000,
            "embedding_size": 100,
            "num_hidden_layers": 1,
            "cell": "gru",
            "reset_mode": "before",
            "reverse_source": False,
            "bridge": "dense",
            "feed_context": True,
            "readout_size": 500,
            "output_rank": 100,
            "initialization": "orthogonal",
            "initializer_range": 0.01,
        }
        return cls(**settings | changes)

    def validate_context(self):
        """The context needs a readout, and the decoder starts from it."""
        if self.feed_context and (self.readout_size is None or self.bridge != "dense"):
            raise ValueError(
                f'feed_context needs a readout_size and bridge="dense", not {self.readout_size} and "{self.bridge}": '
                "see Seq2SeqConfig.cho"
            )
        if self.readout_size is not None and not self.feed_context:
            raise ValueError(f"readout_size is {self.readout_size}, but only feed_context=True has a readout")
