"""Tokenizers and text towers of transformers' forms, so small that a test makes them in a moment."""

import json
from pathlib import Path
from typing import Any

WORDS = ("a", "photo", "of", "cat", "Cat", "dog", "the", "itap", "(", ")", ".", ",", "_")
#: By the tokenizer of a config: what it fills up with, ends and begins with, in the order of its ids.
SPECIAL = {
    "siglip": (["<unk>", "</s>"], "</s>", "</s>", None),
    "siglip2": (["<pad>", "<eos>", "<bos>", "<unk>"], "<pad>", "<eos>", None),
    "mt5": (["<pad>", "</s>", "<unk>"], "<pad>", "</s>", None),
    "xlm": (["<s>", "<pad>", "</s>", "<unk>"], "<pad>", "</s>", "<s>"),
    "bert": (["[PAD]", "[UNK]", "[CLS]", "[SEP]"], "[PAD]", "[SEP]", "[CLS]"),
}


def tokenizer_folder(folder: Path, kind: str, **more: Any) -> Path:
    """A tokenizer of whole words with the special tokens of `kind`, as transformers saves one; more: of its config."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special, pad, end, begin = SPECIAL[kind]
    ids = {word: number for number, word in enumerate([*special, *WORDS])}
    unknown = next(word for word in special if "unk" in word.lower())
    words = Tokenizer(models.WordLevel(ids, unk_token=unknown))
    words.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation()])
    template = f"{begin} $A {end}" if begin else f"$A {end}"
    words.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(word, ids[word]) for word in dict.fromkeys(filter(None, (begin, end)))]
    )
    ends = {"sep_token": end, "cls_token": begin} if kind == "bert" else {"eos_token": end, "bos_token": begin}
    known = {key: value for key, value in {**ends, "pad_token": pad, "unk_token": unknown, **more}.items() if value}
    PreTrainedTokenizerFast(tokenizer_object=words, **known).save_pretrained(folder)
    return folder


def tower_config(folder: Path, kind: str) -> None:
    """The config.json of a text tower of transformers, of width 16, into the folder of its tokenizer."""
    from transformers import M2M100Config, MT5Config, RobertaConfig, XLMRobertaConfig

    sizes: dict[str, Any] = {
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    common: dict[str, Any] = {"vocab_size": 40, "max_position_embeddings": 40}
    config: Any = {
        "xlm-roberta": lambda: XLMRobertaConfig(**sizes, **common, pad_token_id=1),
        "roberta": lambda: RobertaConfig(**sizes, **common, pad_token_id=1),
        "mt5": lambda: MT5Config(d_model=16, d_ff=32, d_kv=8, num_heads=2, num_layers=2, vocab_size=40),
        "nllb": lambda: M2M100Config(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_ffn_dim=32, decoder_ffn_dim=32,
            encoder_attention_heads=2, decoder_attention_heads=2, **common, pad_token_id=1,
        ),
    }[kind]()  # fmt: skip
    config.save_pretrained(folder)


def change(path: Path, **values: Any) -> None:
    """Values of a json written anew."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
