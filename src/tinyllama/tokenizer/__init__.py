"""Tokenizers: one Protocol, SentencePiece and tokenizer.json behind it, fast engines for whole corpora, training."""
