import logging
import stat
from dataclasses import replace

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from tests.wilss.models.encoders import tiny
from wilss.disk import cache_folder
from wilss.errors import EncoderError
from wilss.models.encoders.clip import text
from wilss.models.encoders.clip.encoder import DenseClip, open_clip_encoder
from wilss_masks.sources import prompts

TEMPLATES = ("a photo of a {}.", "itap of the {}.", "a {}")


@pytest.fixture
def clip(tmp_path):
    return open_clip_encoder(tiny.clip_spec(tmp_path), "cpu")


@pytest.fixture
def counted(monkeypatch):
    """How many prompts went through the text tower."""
    counts = []
    original = DenseClip.text

    def counting(self, prompts):
        counts.append(len(prompts))
        return original(self, prompts)

    monkeypatch.setattr(DenseClip, "text", counting)
    return counts


def test_text_features_equal_open_clips_zero_shot_classifier(clip):
    names = ["dog", "potted plant", "tv monitor"]
    templates = prompts.templates("openai")
    tokenizer = SimpleTokenizer(context_length=16)
    expected = open_clip.build_zero_shot_classifier(
        clip.network, tokenizer, names, open_clip.OPENAI_IMAGENET_TEMPLATES, num_classes_per_batch=3
    ).T
    found = torch.stack([text.text_features(clip, [name], templates) for name in names])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_single_prompts_equal_open_clips_encode_text(clip):
    sentences = [f"a photo of {i} dogs" for i in range(170)]  # more than two batches
    tokens = SimpleTokenizer(context_length=16)(sentences)
    expected = clip.network.encode_text(tokens, normalize=True)
    torch.testing.assert_close(clip.text(sentences), expected, rtol=0, atol=1e-5)


def test_synonyms_join_one_ensemble(clip):
    both = text.text_features(clip, ["sofa", "couch"], TEMPLATES)
    sentences = [template.format(name) for name in ("sofa", "couch") for template in TEMPLATES]
    mean = clip.text(sentences).mean(0)
    torch.testing.assert_close(both, mean / mean.norm())


def test_a_class_is_the_same_bytes_whichever_others_are_asked_for(clip, tmp_path):
    classes = [("dog",), ("cat", "kitty"), ("horse",)]
    whole = text.cached_text_features(clip, classes, TEMPLATES, folder=tmp_path / "a")
    alone = [text.cached_text_features(clip, [names], TEMPLATES, folder=tmp_path / "b")[0] for names in classes]
    assert torch.equal(whole, torch.stack(alone))
    assert whole.dtype == torch.float32


def test_a_second_run_reads_the_cache(clip, tmp_path, counted):
    classes = [("dog",), ("cat", "kitty")]
    first = text.cached_text_features(clip, classes, TEMPLATES, folder=tmp_path / "cache")
    assert counted == [3, 6]
    second = text.cached_text_features(clip, [*classes, ("cow",)], TEMPLATES, folder=tmp_path / "cache")
    assert counted == [3, 6, 3]
    assert torch.equal(first, second[:2])
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".f32"}


def test_other_templates_names_weights_or_configs_are_other_entries(clip, tmp_path, counted):
    folder = tmp_path / "cache"
    text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=folder)
    text.cached_text_features(clip, [("dog",)], TEMPLATES[:2], folder=folder)
    text.cached_text_features(clip, [("dogs",)], TEMPLATES, folder=folder)
    other = open_clip_encoder(tiny.clip_spec(tmp_path, quick_gelu=True), "cpu")
    text.cached_text_features(other, [("dog",)], TEMPLATES, folder=folder)
    assert len(counted) == len(list(folder.iterdir())) == 4


def test_two_classes_of_one_feature_are_told(clip, tmp_path, caplog):
    """As of a tokenizer that knows no word: no mask could tell them apart, and no other error would come of it."""
    deaf = replace(clip, tokenizer=lambda prompts: torch.full((len(prompts), 16), 7))
    with caplog.at_level(logging.WARNING):
        text.cached_text_features(clip, [("dog",), ("cat",), ("dog",)], TEMPLATES, folder=tmp_path / "a")
        assert not caplog.records
        text.cached_text_features(deaf, [("dog",), ("cat", "kitty"), ("dog",)], TEMPLATES[:1], folder=tmp_path / "b")
    (record,) = caplog.records
    assert record.message.startswith("dog and cat / kitty have the same text feature, so that no mask can")


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "pickle", "folder"])
def test_a_broken_entry_is_made_anew(clip, tmp_path, counted, damage):
    folder = tmp_path / "cache"
    first = text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=folder)
    (entry,) = folder.iterdir()
    content = bytearray(entry.read_bytes())
    if damage == "folder":
        entry.unlink()
        entry.mkdir()
    elif damage == "pickle":
        np.save(folder / "other.npy", np.array([object()], dtype=object), allow_pickle=True)
        (folder / "other.npy").replace(entry)
    else:
        content[40] ^= 1
        entry.write_bytes({"flipped": content, "short": content[:-4], "empty": b""}[damage])
    assert torch.equal(text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=folder), first)
    assert len(counted) == 2
    if damage != "folder":
        text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=folder)
        assert len(counted) == 2
    assert not list(folder.glob("*.partial"))


def test_where_nothing_can_be_written_there_is_no_cache(clip, tmp_path, counted):
    (tmp_path / "file").write_text("in the way")
    for _ in range(2):
        features = text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=tmp_path / "file" / "cache")
    assert features.shape == (1, 24)
    assert len(counted) == 2


def test_without_a_home_there_is_no_cache(clip, monkeypatch, counted):
    for name in ("HOME", "WILSS_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("pathlib.Path.home", homeless)
    assert cache_folder("text") is None
    assert text.cached_text_features(clip, [("dog",)], TEMPLATES).shape == (1, 24)


def test_the_folder_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("WILSS_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder("text") == tmp_path / ".cache" / "wilss" / "text"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder("text") == tmp_path / "xdg" / "wilss" / "text"
    monkeypatch.setenv("WILSS_CACHE", str(tmp_path / "own"))
    assert cache_folder("text") == tmp_path / "own" / "text"


def test_entries_are_readable_by_their_owner(clip, tmp_path):
    text.cached_text_features(clip, [("dog",)], TEMPLATES, folder=tmp_path / "cache")
    (entry,) = (tmp_path / "cache").iterdir()
    assert entry.stat().st_mode & stat.S_IRUSR


@pytest.mark.parametrize(("names", "templates"), [([], TEMPLATES), (["dog"], []), (["dog"], ["a dog"])])
def test_prompts_that_mean_nothing_are_refused(clip, names, templates):
    with pytest.raises(EncoderError, match=r"names and templates"):
        text.text_features(clip, names, templates)
    with pytest.raises(EncoderError, match="no prompts"):
        clip.text([])


def test_names_with_braces_are_taken_literally(clip):
    assert text.text_features(clip, ["{0} {x} dog"], TEMPLATES).isfinite().all()


def test_overlong_and_empty_prompts_are_encoded(clip):
    features = clip.text(["dog " * 100, "", "犬", "\x00"])
    torch.testing.assert_close(features.norm(dim=1), torch.ones(4))


def test_a_text_tower_with_fewer_tokens_than_the_tokenizer_is_refused(tmp_path):
    small = tiny.clip_spec(tmp_path, text_cfg=tiny.TEXT | {"vocab_size": 1000})
    with pytest.raises(EncoderError, match="fix vocab_size"):
        open_clip_encoder(small, "cpu").text(["dog"])
