"""A pretrained body with a head for another task."""

from transformers import PreTrainedModel


def with_new_head(auto_class, name_or_path: str, **fields) -> tuple[PreTrainedModel, list[str]]:
    """A saved model, opened by `auto_class` with other `fields` of its configuration, and the names of new weights.

    A head that is not saved, or is saved in another size (three classes instead of two), starts from new weights.
    `from_pretrained(…, num_labels=2, ignore_mismatched_sizes=True)` would also give the body new weights.

    Raises:
        ValueError: a weight of the body has another size than the saved one.
    """
    model, found = auto_class.from_pretrained(
        name_or_path, **fields, ignore_mismatched_sizes=True, output_loading_info=True
    )
    body = f"{model.base_model_prefix}."
    sizes = {name: (tuple(saved), tuple(here)) for name, saved, here in found["mismatched_keys"]}
    if of_body := sorted(name for name in sizes if name.startswith(body)):
        saved, here = sizes[of_body[0]]
        raise ValueError(
            f"{of_body[0]} is {list(saved)} in {name_or_path} and {list(here)} here: only a head may have another "
            "size than the saved one; do not change fields that set the sizes of the body"
        )
    return model, sorted({*found["missing_keys"], *sizes})
