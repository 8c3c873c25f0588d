"""Texts of models whose tokenizer, or text tower, is of transformers: against open_clip's own, offline."""

import importlib.util
import io
import json
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
import torch.nn.functional as F
from open_clip.model import CustomTextCLIP

from tests.wilss.models.encoders import texts, tiny, tiny_towers
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.clip.encoder import open_clip_encoder, require_clip
from wilss.models.encoders.clip.tokenizers import open_tokenizer, text_identity
from wilss.models.encoders.multiples import input_multiple

PROMPTS = ["a photo of a Cat.", "itap of the dog", "a_cat (dog), a cat, a dog, a cat, a dog, a cat, a dog, a cat"]
OWN = {"context_length": 12, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
CANONICAL = {"tokenizer_kwargs": {"clean": "canonicalize"}, "no_causal_mask": True, "proj_bias": True}
MEAN = {"hf_pooler_type": "mean_pooler", "context_length": 12}
#: Family: kind of tokenizer, kind of text tower ("" for open_clip's own), text_cfg as open_clip's configs have it.
FAMILIES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "SigLIP": ("siglip", "", {**OWN, **CANONICAL, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP", "pool_type": "last"}),
    "SigLIP 2": (
        "siglip2", "", {**OWN, **CANONICAL, "hf_tokenizer_name": "timm/ViT-B-16-SigLIP2", "pool_type": "last"}),
    "MetaCLIP 2 H": ("xlm", "", {**OWN, "hf_tokenizer_name": "facebook/xlm-v-base", "pool_type": "eos", "eos_id": 2}),
    "MetaCLIP 2 L": (
        "mt5", "", {**OWN, "tokenizer_kwargs": {"clean": "canonicalize"}, "hf_tokenizer_name": "google/mt5-base",
                    "pool_type": "eos", "eos_id": 1}),
    "CLIPA": (
        "bert", "", {**OWN, "hf_tokenizer_name": "bert-base-uncased", "tokenizer_kwargs": {"strip_sep_token": True},
                     "pool_type": "last", "no_causal_mask": True}),
    "XLM-RoBERTa": ("xlm", "xlm-roberta", {**MEAN, "hf_model_name": "xlm-roberta-base"}),
    "RoBERTa": ("xlm", "roberta", {**MEAN, "hf_model_name": "roberta-base"}),
    "mT5": ("mt5", "mt5", {**MEAN, "hf_model_name": "google/mt5-base"}),
    "NLLB": (
        "xlm", "nllb", {"hf_pooler_type": "cls_pooler", "hf_proj_type": "linear", "context_length": 12,
                        "hf_model_name": "facebook/nllb-200-distilled-600M"}),
}  # fmt: skip


def made(folder: Path, family: str, **values: Any) -> EncoderSpec:
    """The spec of a tiny CLIP of this family's text side, with its tokenizer beside it."""
    kind, tower, text = FAMILIES[family]
    text = text | ({"hf_tokenizer_name": text["hf_model_name"]} if tower else {})
    place = texts.tokenizer_folder(folder / "tokenizer", kind, **values)
    if tower:
        texts.tower_config(place, tower)
    path = tiny.clip_config(folder, text_cfg=text, custom_text=True)
    return EncoderSpec(library="open_clip", config=str(path), pretrained="random:1", tokenizer=str(place))


def by_open_clip(encoder: Any, spec: EncoderSpec) -> torch.Tensor:
    """open_clip's own text features of PROMPTS: its tokenizer of that folder, its network of that config."""
    config = json.loads(Path(spec.config or "").read_text())
    folder = Path(spec.tokenizer or "")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(PROMPTS)
    model = config["model_cfg"]
    if model["text_cfg"].get("hf_model_name"):
        model["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    network = CustomTextCLIP(**{key: value for key, value in model.items() if key != "custom_text"}).eval()
    network.load_state_dict(encoder.network.state_dict())
    return F.normalize(network.encode_text(tokens), dim=-1)


@pytest.mark.few(4)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_texts_are_open_clips_own(tmp_path: Path, family: str) -> None:
    spec = made(tmp_path, family)
    encoder = open_clip_encoder(spec, "cpu")
    tiny.shake(encoder.network)
    found = encoder.text(PROMPTS)
    torch.testing.assert_close(found, by_open_clip(encoder, spec), rtol=0, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3
    half = open_clip_encoder(spec, "cpu", precision="bf16").text(PROMPTS)
    assert 0 < (half - open_clip_encoder(spec, "cpu").text(PROMPTS)).abs().max() < 0.05


def test_the_digest_of_the_tokenizer_belongs_to_the_identity(tmp_path: Path) -> None:
    spec = made(tmp_path, "SigLIP")
    first = text_identity(spec)
    assert open_clip_encoder(spec, "cpu").identity["tokenizer"] == first["tokenizer"]
    folder = tmp_path / "tokenizer"
    (folder / "special_tokens_map.json").write_text("{}")
    (folder / "spiece.model").write_bytes(b"is not read beside tokenizer.json")
    texts.change(folder / "tokenizer_config.json", model_max_length=5)
    assert text_identity(spec) == first
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"itap"', '"itapp"'))
    assert text_identity(spec) != first
    assert text_identity(tiny.clip_spec(tmp_path)) == {}


def test_the_config_of_a_text_tower_belongs_to_the_identity(tmp_path: Path) -> None:
    spec = made(tmp_path, "XLM-RoBERTa")
    first = text_identity(spec)
    texts.change(tmp_path / "tokenizer" / "config.json", transformers_version="4.0.0")
    assert text_identity(spec) == first
    texts.change(tmp_path / "tokenizer" / "config.json", num_hidden_layers=1)
    assert {key for key, value in text_identity(spec).items() if value != first[key]} == {"text_tower"}


@pytest.mark.parametrize(
    ("family", "values", "said"),
    [
        ("SigLIP", {"padding_side": "left"}, "fills texts up on the left"),
        ("SigLIP", {"pad_token": "<unk>"}, "fills texts up with 0, not with 1"),
        ("SigLIP 2", {"pad_token": "<unk>"}, "fills texts up with 3, not with 0"),
        ("SigLIP", {"pad_token": None}, "has no pad_token, which this model's texts need"),
    ],
)
def test_a_tokenizer_that_fills_texts_up_otherwise_is_refused(
    tmp_path: Path, family: str, values: dict[str, Any], said: str
) -> None:
    spec = made(tmp_path, family)
    texts.change(tmp_path / "tokenizer" / "tokenizer_config.json", **values)
    with pytest.raises(EncoderError, match=said):
        open_clip_encoder(spec, "cpu")


@pytest.mark.parametrize(
    ("family", "other", "said"),
    [
        ("MetaCLIP 2 H", "mt5", "ends texts without the token 2, at which they are read.*facebook/xlm-v-base"),
        ("SigLIP 2", "siglip", "fills texts up with 1, not with 0"),
        ("SigLIP", "siglip2", "fills texts up with 0, not with 1"),
    ],
)
def test_the_tokenizer_of_another_family_is_refused(tmp_path: Path, family: str, other: str, said: str) -> None:
    spec = made(tmp_path, family)
    foreign = texts.tokenizer_folder(tmp_path / "other", other)
    for ask in (require_clip, lambda spec: open_clip_encoder(spec, "cpu")):
        with pytest.raises(EncoderError, match=said):
            ask(spec.model_copy(update={"tokenizer": str(foreign)}))


@pytest.mark.parametrize("rows", [256_000, 10])
def test_a_tokenizer_of_far_fewer_or_more_words_than_the_text_table_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: int
) -> None:
    folder, text = texts.tokenizer_folder(tmp_path, "siglip2"), FAMILIES["SigLIP 2"][2] | {"vocab_size": rows}
    with pytest.raises(EncoderError, match=f"has 17 words, and the text table {rows:,} rows.*copy its whole folder"):
        open_tokenizer(text, folder, "ViT-B-16-SigLIP2")
    open_tokenizer(text, folder, "clip.json")
    assert f"the text table {rows:,} rows; is it the one that clip.json was trained with?" in caplog.text
    caplog.clear()
    open_tokenizer(text | {"vocab_size": 18}, folder, "ViT-B-16-SigLIP2")
    open_tokenizer(text | {"vocab_size": 100}, folder, "clip.json")
    assert not caplog.text


def test_a_tokenizer_that_writes_no_end_is_told_so(tmp_path: Path) -> None:
    folder = texts.tokenizer_folder(tmp_path, "siglip2")
    texts.change(folder / "tokenizer.json", post_processor=None)
    with pytest.raises(EncoderError, match="writes no end token after a text;.*that of timm/ViT-B-16-SigLIP2, copy"):
        open_tokenizer(FAMILIES["SigLIP 2"][2], folder, "clip.json")


def test_weights_are_asked_for_when_all_else_is_right(tmp_path: Path) -> None:
    spec = made(tmp_path, "SigLIP").model_copy(update={"file": str(tmp_path / "none.safetensors"), "pretrained": None})
    foreign = texts.tokenizer_folder(tmp_path / "other", "siglip2")
    with pytest.raises(WeightsError, match=r"none\.safetensors does not exist"):
        open_clip_encoder(spec, "cpu")
    text = json.loads(Path(spec.config or "").read_text())["model_cfg"]["text_cfg"]
    tower = {"timm_model_name": "vit_base_patch16_unheard_of", "image_size": 64, "timm_pool": "map"}
    refused = [(spec.model_copy(update={"tokenizer": str(foreign)}), "fills texts up with 0, not with 1")]
    (tmp_path / "unknown").mkdir()
    unknown = tiny.clip_config(tmp_path / "unknown", tower, text_cfg=text, custom_text=True)
    refused.append((spec.model_copy(update={"config": str(unknown)}), "open_clip cannot build .*unheard_of"))
    for ask in (require_clip, lambda spec: open_clip_encoder(spec, "cpu")):
        for asked, said in refused:
            with pytest.raises(EncoderError, match=said):
                ask(asked)


def test_untrained_networks_that_differ_have_other_digests_and_the_image_tower_is_its_own(tmp_path: Path) -> None:
    spec = made(tmp_path, "XLM-RoBERTa")
    content = json.loads(Path(spec.config or "").read_text())
    (name, *_) = tiny_towers.TOWERS
    tower = {"timm_model_name": name, "image_size": 64, "timm_pool": "map", "timm_proj": None}
    content["model_cfg"] |= {"vision_cfg": tower, "embed_dim": 32}
    Path(spec.config or "").write_text(json.dumps(content))
    first = open_clip_encoder(spec, "cpu")
    texts.change(tmp_path / "tokenizer" / "config.json", num_hidden_layers=1)
    second = open_clip_encoder(spec, "cpu")
    images = tiny.images(1, 32, 48)
    assert first.digest != second.digest
    assert not torch.equal(first.text(PROMPTS), second.text(PROMPTS))
    assert torch.equal(first.features(images), second.features(images))


def test_more_words_than_the_text_tower_has_rows_are_refused(tmp_path: Path) -> None:
    spec = made(tmp_path, "SigLIP")
    content = json.loads(Path(spec.config or "").read_text())
    content["model_cfg"]["text_cfg"]["vocab_size"] = 4
    Path(spec.config or "").write_text(json.dumps(content))
    with pytest.raises(EncoderError, match="has 4 tokens and the tokenizer of .* more"):
        open_clip_encoder(spec, "cpu").text(["a dog"])


@pytest.mark.parametrize("kind", ["T5Tokenizer", "BertTokenizer", "XLMRobertaTokenizer"])
def test_a_tokenizer_without_its_words_is_refused(tmp_path: Path, kind: str) -> None:
    """transformers makes one that knows no word of such a folder, and every class would have one text feature."""
    spec = made(tmp_path, "MetaCLIP 2 L")
    texts.change(tmp_path / "tokenizer" / "tokenizer_config.json", tokenizer_class=kind)
    (tmp_path / "tokenizer" / "tokenizer.json").rename(tmp_path / "tokenizer" / "vocab.json")  # without its merges
    for ask in (require_clip, text_identity, lambda spec: open_clip_encoder(spec, "cpu")):
        with pytest.raises(WeightsError, match=r"has no vocabulary such as tokenizer\.json .*google/mt5"):
            ask(spec)


@pytest.mark.parametrize(
    ("gone", "said"),
    [(("cat", "dog"), "makes the same of 'a cat, a photo"), (texts.WORDS, "knows no word of 'a cat, a")],
)
def test_a_tokenizer_that_tells_no_words_apart_is_refused(tmp_path: Path, gone: tuple[str, ...], said: str) -> None:
    spec = made(tmp_path, "SigLIP 2")
    file = tmp_path / "tokenizer" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] = {word: n for word, n in content["model"]["vocab"].items() if word not in gone}
    file.write_text(json.dumps(content))
    with pytest.raises(EncoderError, match=said):
        require_clip(spec)


def test_a_tokenizer_that_fills_up_with_what_the_text_tower_does_not_look_past_is_refused(tmp_path: Path) -> None:
    spec = made(tmp_path, "XLM-RoBERTa")
    texts.tokenizer_folder(tmp_path / "tokenizer", "mt5")
    texts.tower_config(tmp_path / "tokenizer", "xlm-roberta")
    with pytest.raises(EncoderError, match="fills texts up with 0, and the text tower looks past 1"):
        require_clip(spec)


@pytest.mark.parametrize(
    ("more", "missing"),
    [({}, "no sep_token, which"), ({"tokenizer_mode": "clips", "tokenizer_kwargs": {}}, "no bos_token, cls_token")],
)
def test_a_tokenizer_without_a_token_that_open_clip_asks_for_is_refused(
    tmp_path: Path, more: dict[str, Any], missing: str
) -> None:
    spec = made(tmp_path, "CLIPA")
    texts.tokenizer_folder(tmp_path / "tokenizer", "mt5")
    path = tiny.clip_config(tmp_path, text_cfg=FAMILIES["CLIPA"][2] | more, custom_text=True)
    for ask in (require_clip, text_identity):
        with pytest.raises(EncoderError, match=missing):
            ask(spec.model_copy(update={"config": str(path)}))


def test_a_tokenizer_is_read_as_bert_base_uncased_lies_on_the_hub(tmp_path: Path) -> None:
    """Its class is told by config.json alone, and its words are a text file."""
    spec, folder = made(tmp_path, "CLIPA"), tmp_path / "plain"
    folder.mkdir()
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true, "model_max_length": 512}')
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "cat", "dog", "."]
    (folder / "vocab.txt").write_text("\n".join(words))
    plain = spec.model_copy(update={"tokenizer": str(folder)})
    with pytest.raises(WeightsError, match=r"plain has no config\.json; copy the whole"):
        open_clip_encoder(plain, "cpu")
    (folder / "config.json").write_text('{"model_type": "bert"}')
    ids = open_clip_encoder(plain, "cpu").tokenizer(["A photo of a Dog."])
    assert ids.tolist() == [[2, 5, 6, 7, 5, 9, 10, 0, 0, 0, 0, 0]]


def test_a_sentencepiece_file_alone_is_read_and_needs_its_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As google/mt5-base lies on the hub."""
    import sentencepiece

    spec, folder, written = made(tmp_path, "MetaCLIP 2 L"), tmp_path / "pieces", io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat", "a photo of the dog"] * 20), model_writer=written, vocab_size=40,
        hard_vocab_limit=False, minloglevel=2, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
    )  # fmt: skip
    folder.mkdir()
    (folder / "spiece.model").write_bytes(written.getvalue())
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "T5Tokenizer"}')
    pieces = spec.model_copy(update={"tokenizer": str(folder)})
    encoder = open_clip_encoder(pieces, "cpu")
    processor = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    ids = encoder.tokenizer(["a dog"])[0].tolist()
    wanted = [*processor.encode("a dog"), 1]
    assert ids == wanted + (12 - len(wanted)) * [0]
    (folder / "added_tokens.json").write_text("{}")  # read again
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if "proto" in name else find(name))
    with pytest.raises(EncoderError, match=r"spiece\.model is read with protobuf; run `pip install 'wilss\[text\]'`"):
        open_clip_encoder(pieces, "cpu")


def test_a_folder_that_is_missing_incomplete_broken_or_not_asked_for_is_refused(tmp_path: Path) -> None:
    spec = made(tmp_path, "XLM-RoBERTa")
    for place, said in ((tmp_path / "none", "does not exist"), (tmp_path, r"has no tokenizer_config\.json, config")):
        with pytest.raises(WeightsError, match=said):
            require_clip(spec.model_copy(update={"tokenizer": str(place)}))
    with pytest.raises(EncoderError, match="open_clip's own tokenizer; leave `tokenizer:` out"):
        require_clip(tiny.clip_spec(tmp_path).model_copy(update={"tokenizer": spec.tokenizer}))
    (tmp_path / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(EncoderError, match="transformers cannot read the tokenizer in"):
        open_clip_encoder(made(tmp_path / "again", "SigLIP").model_copy(update={"tokenizer": spec.tokenizer}), "cpu")


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_code_that_a_tokenizer_names_is_never_run(tmp_path: Path, name: str) -> None:
    spec = made(tmp_path, "XLM-RoBERTa")
    texts.change(tmp_path / "tokenizer" / name, auto_map={"AutoTokenizer": "evil.Tokenizer", "AutoConfig": "evil.C"})
    (tmp_path / "tokenizer" / "evil.py").write_text("raise SystemExit('was run')")
    with pytest.raises(EncoderError, match="names Python code to be run"):
        open_clip_encoder(spec, "cpu")


def test_without_the_extra_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = made(tmp_path, "SigLIP")
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "transformers" else find(name))
    for ask in (require_clip, input_multiple):
        with pytest.raises(EncoderError, match=r"a tokenizer of transformers .*; run `pip install 'wilss\[text\]'`"):
            ask(spec)


def test_the_hubs_tokenizer_is_taken_from_the_cache_and_offline_its_name_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    spec = made(tmp_path, "SigLIP")
    hub = spec.model_copy(update={"tokenizer": None})
    with pytest.raises(WeightsError, match=r"the tokenizer of timm/ViT-B-16-SigLIP .* pass `tokenizer:`"):
        open_clip_encoder(hub, "cpu")
    place = tmp_path / "hub" / "models--timm--ViT-B-16-SigLIP"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("0" * 40)
    snapshot = texts.tokenizer_folder(place / "snapshots" / ("0" * 40), "siglip")
    assert torch.equal(open_clip_encoder(hub, "cpu").text(PROMPTS), open_clip_encoder(spec, "cpu").text(PROMPTS))
    (snapshot / "added_tokens.json").write_text("{}")
    assert text_identity(hub) == text_identity(spec)
    (snapshot / "tokenizer.json").unlink()
    with pytest.raises(WeightsError, match=r"of timm/ViT-B-16-SigLIP \(vocabulary .*\.model\) is not in the cache"):
        open_clip_encoder(hub, "cpu")


def test_an_open_clip_that_is_too_old_for_transformers_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def call(self: Any, texts: Any) -> Any:
        return self.tokenizer.batch_encode_plus(texts)  # as open_clip 3.2 does

    spec = made(tmp_path, "SigLIP")
    monkeypatch.setattr("open_clip.tokenizer.HFTokenizer.__call__", call)
    with pytest.raises(EncoderError, match=r"do not fit each other; run `pip install -U 'wilss\[text\]'`"):
        require_clip(spec)
