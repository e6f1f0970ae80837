"""The paper of every station; its name and its new idea stand in its configuration (`name_and_idea`)."""

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
