"""`python -m hf_lineage table` prints the stations as the README's table."""

import sys

from hf_lineage.models import LINEAGE, name_and_idea


PAPERS = {
    "lineage_nnlm": "https://www.jmlr.org/papers/v3/bengio03a.html",
    "lineage_word2vec": "https://arxiv.org/abs/1301.3781",
    "lineage_rnn": "https://doi.org/10.1207/s15516709cog1402_1",
    "lineage_lstm": "https://doi.org/10.1162/neco.1997.9.8.1735",
    "lineage_gru": "https://arxiv.org/abs/1406.1078",
    "lineage_seq2seq": "https://arxiv.org/abs/1409.3215",
    "lineage_rnnsearch": "https://arxiv.org/abs/1409.0473",
    "lineage_luong": "https://arxiv.org/abs/1508.04025",
    "lineage_transformer": "https://arxiv.org/abs/1706.03762",
    "lineage_elmo": "https://arxiv.org/abs/1802.05365",
    "lineage_gpt": "https://cdn.openai.com/research-covers/language-unsupervised/language_understanding_paper.pdf",
    "lineage_bert": "https://arxiv.org/abs/1810.04805",
}


def lineage_table() -> str:
    """Markdown rows of all stations from their configurations: type, name and paper, the new idea, heads."""
    rows = ["| `model_type` | station | new | heads (`AutoModel…`) |", "|---|---|---|---|"]
    for config_class in LINEAGE:
        name, idea = name_and_idea(config_class)
        heads = ", ".join(auto_name.removeprefix("AutoModel") or "Model" for auto_name in config_class.auto_classes)
        station = f"[{name}]({PAPERS[config_class.model_type]})"
        rows.append(f"| `{config_class.model_type}` | {station} | {idea} | {heads} |")
    return "\n".join(rows)


def main(arguments: list[str]) -> int:
    """Returns the exit status."""
    if arguments != ["table"]:
        sys.stderr.write("usage: python -m hf_lineage table\n")
        return 2
    sys.stdout.write(lineage_table() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
