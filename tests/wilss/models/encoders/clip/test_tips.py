"""TIPSv2 as a CLIP: its text tower against torch's own encoder layers, its dense features against timm's network."""

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from tests.wilss.models.encoders.tiny import images, shake
from wilss.data.images import normalise
from wilss.data.manifest import EncoderSpec
from wilss.errors import EncoderError, WeightsError
from wilss.models.encoders.both import open_both
from wilss.models.encoders.clip.opening import open_what, require_what
from wilss.models.encoders.clip.text import cached_text_features
from wilss.models.encoders.clip.tips import check_text_side, sinusoids
from wilss.models.encoders.clip.tips_files import tips_identity
from wilss.models.encoders.clip.tokenizers import text_identity
from wilss.models.encoders.vit.encoder import open_vit

MODEL = "vit_base_patch14_reg1_tipsv2"
ARGS: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 4, "img_size": 56}
PROMPTS = ["a photo of a cat", "the Dog!", "a dog and a cat and a bird on the grass"]
WORDS = 22
#: torch's names of an encoder layer's parts, and TIPS'.
NAMES = {"self_attn": "attn", "norm1": "ln_1", "norm2": "ln_2", "linear1": "mlp.c_fc", "linear2": "mlp.c_proj"}


def words_file(folder: Path, words: int = WORDS) -> Path:
    """A SentencePiece file as TIPS' is: padding 0, no begin."""
    from sentencepiece import SentencePieceTrainer

    content = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat", "the dog and a bird on the grass"] * 9), model_writer=content,
        vocab_size=words, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    path = folder / "tokenizer.model"
    path.write_bytes(content.getvalue())
    return path


class ByTorch(nn.Module):
    """The text tower of torch's own layers."""

    def __init__(self, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 48, 0.0, "relu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """One text [L] without padding, by itself."""
        width = self.words.embedding_dim
        places = torch.arange(len(ids))[:, None] / 10_000 ** (torch.arange(width // 2) / (width // 2 - 1))
        x = self.words(ids) * width**0.5 + torch.cat([places.sin(), places.cos()], dim=1)
        return F.normalize(self.encoder(x[None])[0].mean(dim=0), dim=0)

    def published(self) -> dict[str, torch.Tensor]:
        """Its weights by the names of TIPS' files."""
        found = {"temperature": torch.tensor(0.02), "token_embedding.weight": self.words.weight.detach()}
        for name, value in self.encoder.state_dict().items():
            part, _, rest = name.partition(".")
            number, _, rest = rest.partition(".") if part == "layers" else ("", "", rest)
            for torchs, tips in NAMES.items():
                rest = rest.replace(torchs, tips)
            found[f"transformer.resblocks.{number}.{rest}" if number else f"ln_final.{rest}"] = value
        return found


def by_torch(seed: int = 5) -> ByTorch:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = ByTorch().eval()
    shake(network)
    return network


def made(folder: Path, **changes: Any) -> EncoderSpec:
    """The spec of a tiny TIPSv2, with its text side in `folder`; changes: of its text weights, None for none."""
    tensors = {**by_torch().published(), **changes}
    np.savez(folder / "text.npz", **{name: value.numpy() for name, value in tensors.items() if value is not None})
    return EncoderSpec(
        library="timm", model=MODEL, args=ARGS, pretrained="random:1",
        text=str(folder / "text.npz"), tokenizer=str(words_file(folder)),
    )  # fmt: skip


@torch.inference_mode()
def test_texts_are_those_of_torchs_layers_each_without_padding(tmp_path: Path) -> None:
    clip, slow = open_what(made(tmp_path), "cpu"), by_torch()
    ids = clip.tokenizer(PROMPTS)
    assert ids.shape == (3, 64)
    assert torch.equal(ids[1], clip.tokenizer(["the dog!"])[0])  # lower case
    wanted = torch.stack([slow(row[row > 0]) for row in ids])
    found = clip.text(PROMPTS)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 1e-3
    assert clip.logit_scale == pytest.approx(50)
    half = open_what(made(tmp_path), "cpu", precision="bf16").text(PROMPTS)
    assert 0 < (half - found).abs().max() < 0.05


@torch.inference_mode()
def test_a_long_text_is_cut_and_one_of_no_words_refused(tmp_path: Path) -> None:
    clip = open_what(made(tmp_path), "cpu")
    long = clip.tokenizer(["a cat " * 100])
    assert long.shape == (1, 64)
    assert (long > 0).all()
    torch.testing.assert_close(clip.text(["a cat " * 100])[0], by_torch()(long[0]), rtol=0, atol=1e-5)
    with pytest.raises(EncoderError, match=r"tokenizer\.model makes nothing of ' '; give the class another prompt"):
        clip.text([" "])


def test_positions_are_sines_and_cosines() -> None:
    table = sinusoids(64, 32)
    assert table.shape == (64, 32)
    assert float(table[5, 0]) == pytest.approx(math.sin(5))
    assert float(table[63, 31]) == pytest.approx(math.cos(63e-4))


@pytest.mark.parametrize("size", [(56, 56), (28, 84)])
@torch.inference_mode()
def test_dense_features_are_timms_last_block_of_values(tmp_path: Path, size: tuple[int, int]) -> None:
    """As TIPS' own zero-shot segmentation has them, by timm's forward up to the last block."""
    clip, pictures = open_what(made(tmp_path), "cpu"), images(2, *size)
    network: Any = clip.path.trunk.network  # type: ignore[attr-defined]
    shake(network)
    found = clip.features(pictures)
    caught: list[torch.Tensor] = []
    network.blocks[-1].register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    network.forward_features(normalise(pictures, clip.mean, clip.std))
    x, block = caught[0], network.blocks[-1]
    values = block.attn.qkv(block.norm1(x)).chunk(3, dim=-1)[2]
    x = x + block.ls1(block.attn.proj(values))
    x = network.norm(x + block.ls2(block.mlp(block.norm2(x))))[:, 2:]
    wanted = F.normalize(x, dim=-1).transpose(1, 2).reshape(2, 32, size[0] // 14, size[1] // 14)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


def test_one_network_has_both_jobs(tmp_path: Path) -> None:
    spec, pictures = made(tmp_path), images(1, 28, 56)
    both, vit = open_both(spec, "cpu"), open_vit(spec, "cpu")
    features, block = both.features_and_block(pictures)
    assert torch.equal(features, open_what(spec, "cpu").features(pictures))
    assert torch.equal(block.keys, vit.last_block(pictures).keys)
    assert (block.prefix, both.vit.pos_interp) == (2, "timm")
    assert spec.is_the_network_of(spec.model_copy(update={"text": None, "tokenizer": None}))


@torch.inference_mode()
def test_published_files_of_vision_are_read(tmp_path: Path) -> None:
    """In the form of the .npz (DINOv2's, with a row for the class in the position table), and mean and deviation."""
    network: Any = timm.create_model(MODEL, num_classes=0, dynamic_img_size=True, **ARGS).eval()
    shake(network)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    tensors["register_tokens"] = tensors.pop("reg_token")
    tensors["mask_token"] = np.zeros((1, 32), np.float32)
    row = np.full((1, 1, 32), 0.25, np.float32)
    tensors["pos_embed"] = np.concatenate([row, tensors["pos_embed"]], axis=1)
    tensors["cls_token"] = tensors["cls_token"] - row
    np.savez(tmp_path / "vision.npz", **tensors)
    spec = made(tmp_path).model_copy(update={"pretrained": "webli", "file": str(tmp_path / "vision.npz")})
    clip = open_what(spec, "cpu")
    assert (clip.mean, clip.std, clip.patch) == ((0, 0, 0), (1, 1, 1), 14)
    opened: Any = clip.path
    pixels = images(1, 56, 56) / 255.0
    torch.testing.assert_close(opened.trunk.network(pixels), network(pixels), rtol=0, atol=1e-5)


def test_text_and_tokenizer_belong_to_the_identity_and_to_the_key_of_texts(tmp_path: Path) -> None:
    spec, cache = made(tmp_path), tmp_path / "cache"
    clip = open_what(spec, "cpu")
    first = tips_identity(spec)
    assert text_identity(spec) == first
    assert {key: clip.identity[key] for key in first} == first
    cached_text_features(clip, [["cat"]], ["a {}"], folder=cache)
    for key in first:
        other = dataclasses.replace(clip, identity={**clip.identity, key: "other"})
        cached_text_features(other, [["cat"]], ["a {}"], folder=cache)
    assert len(list(cache.iterdir())) == 3
    made(tmp_path, temperature=torch.tensor(0.05))
    assert tips_identity(spec)["text"] != first["text"]


def test_a_folder_and_one_file_of_both_sides_do_as_well(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    spec = made(tmp_path)
    published = by_torch().published()
    one = {f"text_encoder.{name}": value for name, value in published.items() if name != "temperature"}
    one |= {"temperature": published["temperature"], "vision_encoder.mask_token": torch.zeros(1, 32)}
    save_file(one, tmp_path / "both.safetensors")
    other = spec.model_copy(update={"text": str(tmp_path / "both.safetensors"), "tokenizer": str(tmp_path)})
    assert torch.equal(open_what(other, "cpu").text(PROMPTS), open_what(spec, "cpu").text(PROMPTS))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"temperature": None}, r"text\.npz has no temperature above 0"),
        ({"temperature": torch.tensor(-1.0)}, r"text\.npz has no temperature above 0"),
        ({"token_embedding.weight": None}, r"text\.npz is not the text tower of TIPS; name its file"),
        (
            {"token_embedding.weight": torch.zeros(WORDS, 24)},
            r"text\.npz does not fit .*: \d+ of another shape",
        ),
        ({"token_embedding.weight": torch.zeros(50, 32)}, r"tokenizer\.model has 22 words and the text tower 50"),
        ({"ln_final.bias": None}, r"text\.npz does not fit the network: 1 missing \(ln_final\.bias\)"),
        ({"ln_final.bias": torch.full((32,), math.nan)}, r"text\.npz has NaN or infinite values in ln_final\.bias"),
        ({"more": torch.zeros(3)}, r"text\.npz does not fit the network: 1 unexpected \(more\)"),
    ],
)
def test_a_text_tower_of_no_use_is_refused(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises(WeightsError, match=told):
        open_what(made(tmp_path, **changes), "cpu")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"text": None}, rf"{MODEL} has its text in files of its own; write `text:` \(tips_v2_oss_\*_text\.npz"),
        ({"text": None, "tokenizer": None}, r"has its text and tokenizer in files of its own"),
        ({"model": "vit_small_patch16_224.dino"}, r"dino of timm has no text side; .* TIPSv2 alone"),
        ({"text": "none.npz"}, r"none\.npz does not exist or may not be read; check `text:` of the encoder"),
        ({"tokenizer": "none"}, r"none does not exist or may not be read; check `tokenizer:` of the encoder"),
        ({"library": "open_clip", "model": "ViT-B-16"}, r"ViT-B-16 of open_clip has its text tower in its weights"),
        ({"tokenizer": "."}, r"has no tokenizer\.model or spiece\.model; name TIPS' SentencePiece file"),
    ],
)
def test_what_cannot_be_opened_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    with pytest.raises((EncoderError, WeightsError), match=told):
        require_what(made(tmp_path).model_copy(update=changes))


def test_another_file_in_the_place_of_the_words_is_refused(tmp_path: Path) -> None:
    spec = made(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0a\x03abc no such thing")
    with pytest.raises(WeightsError, match=r"tokenizer\.model is no SentencePiece file"):
        open_what(spec, "cpu")


def test_a_text_tower_of_another_size_is_refused_and_one_alone_is_checked(tmp_path: Path) -> None:
    spec = made(tmp_path)
    check_text_side(spec)
    with pytest.raises(WeightsError, match=r"texts of 32 values, and the image tower patches of 48"):
        open_what(spec.model_copy(update={"args": ARGS | {"embed_dim": 48}}), "cpu")
    with pytest.raises(WeightsError, match=r"texts of 32 values, which the 3 heads of the image tower do not divide"):
        open_what(spec.model_copy(update={"args": ARGS | {"embed_dim": 48, "num_heads": 3}}), "cpu")
    (tmp_path / "text.npz").write_bytes((tmp_path / "text.npz").read_bytes()[:3000])
    with pytest.raises(WeightsError, match=r"text\.npz is no whole npz file"):
        check_text_side(spec)


def test_files_of_the_first_tips_which_fit_as_well_are_refused_by_name(tmp_path: Path) -> None:
    spec = made(tmp_path)
    (tmp_path / "text.npz").rename(tmp_path / "tips_oss_b14_highres_distilled_text.npz")
    for change in ({"text": str(tmp_path / "tips_oss_b14_highres_distilled_text.npz")}, {"file": "tips_oss_b14.npz"}):
        with pytest.raises(EncoderError, match=r"tips_oss_b14.*npz is of TIPS, whose texts and images are not those"):
            require_what(spec.model_copy(update={"text": str(tmp_path / "tokenizer.model"), **change}))
