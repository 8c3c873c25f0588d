"""SAM 3 asked by words: encoded once, the same as when everything is given at once; padding says nothing."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wilss.errors import EncoderError
from wilss.models.proposers.folders import read_folder
from wilss.models.proposers.words import WordFeatures, WordNetwork


@pytest.fixture(scope="module")
def network(network_folders: dict[str, Path]) -> WordNetwork:
    return WordNetwork(read_folder(str(network_folders["sam3"]), "words", "model"), "cpu")


def pictures() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, 40, 30 + 9 * i), dtype=torch.uint8, generator=generator) for i in range(3)]


def test_answers_are_those_of_the_network_asked_all_at_once(network: WordNetwork) -> None:
    from transformers import Sam3Processor

    words = ["cat", "a very long dog"]
    processor = Sam3Processor.from_pretrained(str(network.folder.path))
    features = network.words(words)
    pairs = [(0, 0), (0, 1), (1, 0), (2, 1), (2, 0), (1, 1)]
    with network.asking():
        answers = list(network.answers(network.encoded(network.inputs(pictures())), features, pairs))
        for (image, word), answer in zip(pairs, answers, strict=True):
            said = network.network(**processor(images=[pictures()[image]], text=[words[word]], return_tensors="pt"))
            theirs = said.pred_logits.sigmoid() * said.presence_logits.sigmoid()
            torch.testing.assert_close(answer.scores, theirs[0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(answer.masks, said.pred_masks[0], atol=1e-4, rtol=1e-3)
            torch.testing.assert_close(answer.semantic, said.semantic_seg[0, 0], atol=1e-4, rtol=1e-3)
    assert not torch.allclose(answers[0].scores, answers[1].scores, atol=1e-3)


def test_a_word_has_the_same_features_whichever_the_others_are(network: WordNetwork) -> None:
    alone, together = network.words(["cat"]), network.words(["a very long dog", "cat"])
    length = int(alone.valid.sum())
    assert np.array_equal(alone.features[0], together.features[1, :length])
    assert together.valid.sum(axis=1).tolist()[1] == length
    assert together.valid.shape[1] == together.valid.sum(axis=1).max()


def test_padding_says_nothing(network: WordNetwork) -> None:
    """The features of a word stand for it with the mask of its tokens alone."""
    words = network.words(["cat", "a very long dog"])
    noisy = words.features.copy()
    noisy[0, int(words.valid[0].sum()) :] = 99
    with network.asking():
        encoded = network.encoded(network.inputs(pictures()))
        (first,) = network.answers(encoded, words, [(0, 0)])
        (second,) = network.answers(encoded, WordFeatures(features=noisy, valid=words.valid), [(0, 0)])
    torch.testing.assert_close(first.scores, second.scores)
    torch.testing.assert_close(first.masks, second.masks)


def test_words_that_cannot_be_asked_are_named(network: WordNetwork) -> None:
    with pytest.raises(EncoderError, match=r"has \d+ tokens, and SAM 3 reads 32; give its class shorter `prompts`"):
        network.words(["cat", "word " * 20])
    with pytest.raises(EncoderError, match=r"knows nothing of ''; copy the whole folder again"):
        network.words([""])
