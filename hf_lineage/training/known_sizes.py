"""What a training step needs to know about a batch before a GPU computes: asking the GPU would stall the step."""

from collections.abc import Callable, Collection

from hf_lineage.models.packed_texts import bounds_of_documents


class WithTextLengths:
    """Gives `collator`'s packed batches `max_length_q` and `max_length_k`, the tokens of the longest texts.

    With `documents`, rows whose `position_ids` [B, T] restart also get `document_bounds`, the documents' bounds in all
    rows end to end, as int32 [documents + 1].
    """

    def __init__(self, collator: Callable[[list[dict]], dict], documents: bool):
        self.collator, self.documents = collator, documents

    def __call__(self, examples: list[dict]) -> dict:
        batch = self.collator(examples)
        given: dict = {}
        if self.documents and "position_ids" in batch and not {"attention_mask", "cu_seq_lens_q"} & batch.keys():
            bounds = bounds_of_documents(batch["position_ids"])
            if bounds is not None:
                given = {"document_bounds": bounds, "max_length_q": int(bounds.diff().max())}
        for side in "qk":
            if (bounds := batch.get(f"cu_seq_lens_{side}")) is not None:
                given[f"max_length_{side}"] = int(bounds.diff().max())
        return {**batch, **given}


class WithNumbers:
    """Gives the columns `names` of `collator`'s batches as Python's numbers, which stay off the GPU."""

    def __init__(self, collator: Callable[[list[dict]], dict], names: Collection[str]):
        self.collator, self.names = collator, names

    def __call__(self, examples: list[dict]) -> dict:
        batch = self.collator(examples)
        return {name: value.tolist() if name in self.names else value for name, value in batch.items()}
