"""SAM 3 asked by words: an image is encoded once, a word once, and each pair of both gives masks with scores.

N. Carion et al., "SAM 3: Segment Anything with Concepts", 2025.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wilss.errors import EncoderError
from wilss.models.proposers.folders import NetworkFolder
from wilss.models.proposers.opening import OpenedNetwork, tokenizer_of

#: Pairs of image and word that are decoded together: each holds the image's finest features, 85 MB.
_PAIRS_AT_ONCE = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class WordFeatures:
    """Of C words, what the text tower says: features float32 [C, L, D], and which of the L places hold a token."""

    features: NDArray[np.float32]
    valid: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What SAM 3 says of an image and a word.

    masks: logits [Q, h, w]; scores: [Q] in [0, 1], whether a mask is of the word, times whether the word is in the
    image at all; semantic: logits [h, w] of all that the word names.
    """

    masks: Tensor
    scores: Tensor
    semantic: Tensor


class WordNetwork(OpenedNetwork):
    """SAM 3, opened."""

    def words(self, words: Sequence[str]) -> WordFeatures:
        """Encode words, each as it is. Raises EncoderError for one that is too long or that nobody knows."""
        ids, valid = _tokens(self.folder, words, self.network.config.text_config)
        longest = int(valid.sum(dim=-1).max())
        features = []
        with self.asking():
            for tokens, mask in zip(ids, valid, strict=True):  # one by one: the same whichever the others are
                said = self.network.get_text_features(
                    input_ids=tokens[None].to(self.device), attention_mask=mask[None].to(self.device)
                )
                features.append(said.pooler_output[0, :longest].float().cpu())
        return WordFeatures(features=torch.stack(features).numpy(), valid=valid[:, :longest].bool().numpy())

    def encoded(self, inputs: Tensor) -> Any:
        """Images float32 [B, 3, side, side] as the features that `answers` wants."""
        return self.network.get_vision_features(inputs.to(self.device, non_blocking=True))

    def answers(self, encoded: Any, words: WordFeatures, pairs: Sequence[tuple[int, int]]) -> Iterator[Answer]:
        """For pairs of an image's place and a word's, what the network says, in order. Call it within `asking`."""
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            some = torch.tensor(pairs[first : first + _PAIRS_AT_ONCE])
            said = self._decoded(encoded, words, some[:, 0], some[:, 1])
            scores = (said.pred_logits.float().sigmoid() * said.presence_logits.float().sigmoid()).unbind()
            for masks, score, semantic in zip(said.pred_masks, scores, said.semantic_seg, strict=True):
                yield Answer(masks=masks, scores=score, semantic=semantic[0])

    def _decoded(self, encoded: Any, words: WordFeatures, images: Tensor, asked: Tensor) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        rows = images.to(self.device)
        levels = {
            name: tuple(level[rows] for level in encoded[name])
            for name in ("fpn_hidden_states", "fpn_position_encoding")
        }
        # the mask of its tokens has to come along, or the padding takes part in every score
        return self.network(
            vision_embeds=type(encoded)(**levels),
            text_embeds=BaseModelOutputWithPooling(
                pooler_output=torch.from_numpy(words.features)[asked].to(self.device)
            ),
            attention_mask=torch.from_numpy(words.valid)[asked].long().to(self.device),
        )


def _tokens(folder: NetworkFolder, words: Sequence[str], config: Any) -> tuple[Tensor, Tensor]:
    """Token ids and which of them are no padding, int64 [C, L] each. config: of the text tower."""
    tokenizer, length = tokenizer_of(folder), config.max_position_embeddings
    said = tokenizer(list(words), padding="max_length", max_length=length)
    ids, valid = said["input_ids"], said["attention_mask"]
    special = set(tokenizer.all_special_ids)
    for word, row in zip(words, ids, strict=True):
        if len(row) > length:
            raise EncoderError(
                f"{word!r} has {len(row)} tokens, and SAM 3 reads {length}; give its class shorter `prompts`."
            )
        if set(row) <= special:
            raise EncoderError(
                f"the tokenizer in {folder.path} knows nothing of {word!r}; copy the whole folder again."
            )
        if max(row) >= config.vocab_size:
            raise EncoderError(
                f"the tokenizer in {folder.path} has more words than its network ({config.vocab_size}); copy both from "
                "one place."
            )
    return torch.tensor(ids), torch.tensor(valid)
