"""Trains the pocket model's tokenizer: byte-level BPE, digits one by one.

Byte-level BPE (Sennrich et al. 2016; bytes as in GPT-2, Radford et al. 2019) can spell any text, so
no prompt is unknown to it. Digits stand alone so that a number never seen is still read digit by
digit, and refused for the right reason.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from course_kit.pocket_model import corpus, forms

VOCABULARY = 4096
CONTEXT = 1024
_TEXTS = 60_000

# The blank before a capital letter and the Chinese characters that stand next to names in questions
# are pieces of their own: a name has the same tokens after a blank, after a quotation mark and
# beside any of these. (Every Chinese character alone would cost half as many tokens again.)
_BESIDE_NAMES = "的是用在把说请叫呢吗啊呀吧怎什么哪啥首都译写这那指到问"
_PIECES = (
    rf"[{_BESIDE_NAMES}]|\p{{N}}| (?=\p{{Lu}})|'(?:s|t|re|ve|m|ll|d)"
    rf"| ?[^\s\p{{N}}\p{{P}}\p{{S}}{_BESIDE_NAMES}]+| ?[\p{{P}}\p{{S}}]+|\s+(?!\S)|\s+"
)


def train_tokenizer(seed: int) -> Any:
    """Return a `PreTrainedTokenizerFast` trained on a sample of the corpus."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(forms.SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    rng = random.Random(f"{seed}/tokenizer")
    texts = ("".join(part.text for part in corpus.draw(rng)) for _ in range(_TEXTS))
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token=forms.END_OF_TEXT,
        pad_token=forms.END_OF_TEXT,
        padding_side="left",
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = forms.CHAT_TEMPLATE
    return tokenizer


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer's files into the checkpoint folder.

    transformers 5 writes a class name that version 4 does not know; the older name serves both.
    """
    tokenizer.save_pretrained(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text("utf-8"))
    config.pop("backend", None)
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
