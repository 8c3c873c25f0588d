"""The built-in CLIP: open_clip's own model and loss, views of drawings and captions made of their tags."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image
from torch import Tensor, nn

from recipe.data import View, as_batch, jittered, recoloured, views
from recipe.training import Facts, Run, optimisers
from wilss.data.shapes import CLASS_NAMES, Drawing

#: Words for views that show no object; the manifest of the built-in data uses the same.
BACKGROUND_WORDS = ("background", "pattern", "wallpaper", "clutter", "pebbles", "strokes")

#: Until then the views keep their colours, which are the first hint that a network finds. Later on the channels of
#: four in ten views are shuffled, so that outlines must do, and the crops come closer.
EASY_STEPS = 2000

Tokenizer = Callable[[list[str]], Tensor]

CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {
        "image_size": 96,
        "patch_size": 8,
        "width": 192,
        "layers": 3,
        "head_width": 64,
        "pool_type": "avg",
        "pos_embed_type": "sin_cos_2d",
    },
    "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def caption(tags: Sequence[int], rng: np.random.Generator) -> str:
    """One of OpenAI's 80 templates about the objects to be seen, in random order."""
    names = [CLASS_NAMES[i] for i in rng.permutation(tags)] if tags else [str(rng.choice(BACKGROUND_WORDS))]
    subject = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    templates = open_clip.OPENAI_IMAGENET_TEMPLATES
    return str(templates[int(rng.integers(len(templates)))](subject))


def assorted(stream: Iterator[View], size: int, copies: int) -> list[View]:
    """`size` views, at most `copies` of the same tags: the contrastive loss takes equal captions for opposites."""
    seen: Counter[tuple[int, ...]] = Counter()
    chosen: list[View] = []
    while len(chosen) < size:
        view = next(stream)
        if seen[view.tags] < copies:
            seen[view.tags] += 1
            chosen.append(view)
    return chosen


class SmallVocabulary:
    """The real tokenizer's ids, numbered by rank among those that the captions use.

    Training a table of 49,408 rows of which 150 are ever read would be a waste; ranks keep the order of ids, so the
    end-of-text token stays the largest, which is how open_clip finds it.
    """

    def __init__(self) -> None:
        self.tokenizer = open_clip.SimpleTokenizer(context_length=CONFIG["text_cfg"]["context_length"])
        words = [*CLASS_NAMES, *BACKGROUND_WORDS, "star, star and star"]
        texts = [template(word) for template in open_clip.OPENAI_IMAGENET_TEMPLATES for word in words]
        self.ids: Tensor = self.tokenizer(texts).unique()
        """int64 [V], ascending: the id of each rank."""

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Ranks [B, L] of the tokens of `texts`."""
        return torch.searchsorted(self.ids, self.tokenizer(list(texts)))


def small_model(vocabulary: SmallVocabulary) -> open_clip.CLIP:
    """The configured CLIP with a token table of the used rows alone."""
    model = open_clip.CLIP(**CONFIG)
    model.token_embedding = nn.Embedding(len(vocabulary.ids), CONFIG["text_cfg"]["width"])
    nn.init.normal_(model.token_embedding.weight, std=0.02)
    with torch.no_grad():  # sines of amplitude 1 would drown the patches of an untrained stem
        model.visual.positional_embedding.mul_(0.2)
    return model


def full_state(model: open_clip.CLIP, vocabulary: SmallVocabulary) -> dict[str, Tensor]:
    """The state dict that open_clip builds CONFIG for; rows of tokens never read are zero."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    rows = state["token_embedding.weight"]
    table = torch.zeros(CONFIG["text_cfg"]["vocab_size"], rows.shape[1])
    table[vocabulary.ids] = rows
    state["token_embedding.weight"] = table
    return state


def normalised(images: Tensor) -> Tensor:
    """[B, 3, H, W] in [0, 1] with CLIP's own mean and spread."""
    mean = torch.tensor(open_clip.OPENAI_DATASET_MEAN).view(3, 1, 1)
    return (images - mean) / torch.tensor(open_clip.OPENAI_DATASET_STD).view(3, 1, 1)


def class_vectors(model: open_clip.CLIP, tokens: Tokenizer, names: Sequence[str]) -> Tensor:
    """Prompt-ensembled unit text features [C, D] of `names`."""
    rows = []
    for name in names:
        prompts = [template(name) for template in open_clip.OPENAI_IMAGENET_TEMPLATES]
        features = model.encode_text(tokens(prompts), normalize=True).mean(dim=0)
        rows.append(features / features.norm())
    return torch.stack(rows)


@torch.no_grad()
def zero_shot_top1(model: open_clip.CLIP, tokens: Tokenizer, drawings: Sequence[Drawing]) -> float:
    """The share of single-object drawings whose class is the nearest of all twenty."""
    model.eval()
    side = (CONFIG["vision_cfg"]["image_size"],) * 2
    single = [d for d in drawings if len(d.tags) == 1]
    images = as_batch([np.asarray(Image.fromarray(d.image).resize(side, Image.Resampling.BILINEAR)) for d in single])
    vectors = class_vectors(model, tokens, CLASS_NAMES[1:])
    found = (model.encode_image(normalised(images), normalize=True) @ vectors.T).argmax(dim=1) + 1
    return float((found == torch.tensor([d.tags[0] for d in single])).float().mean())


def train(
    drawings: Sequence[Drawing],
    path: Path,
    *,
    steps: int,
    batch: int,
    lr: float,
    dropout: float,
    copies: int,
    seed: int,
    facts: Facts,
) -> open_clip.CLIP:
    """Train from scratch or from the checkpoint at `path`."""
    torch.manual_seed(seed)
    vocabulary = SmallVocabulary()
    model = small_model(vocabulary)
    model.visual.patch_dropout = open_clip.transformer.PatchDropout(dropout)
    blocks = [*model.visual.transformer.resblocks, *model.transformer.resblocks]
    run = Run(path, {"clip": model}, optimisers([model], blocks, lr), steps, lr, facts)
    run.resume()
    rng = np.random.default_rng([seed, run.step])
    generator = torch.Generator().manual_seed(seed + run.step)
    side = CONFIG["vision_cfg"]["image_size"]
    wide, close = views(drawings, rng, side, (0.5, 1.0)), views(drawings, rng, side, (0.4, 1.0))

    def loss_of(step: int) -> Tensor:
        model.train()
        model.visual.patch_dropout.prob = dropout if step < 0.85 * steps else 0.0
        chosen = assorted(wide if step < EASY_STEPS else close, batch, copies)
        images = jittered(as_batch([view.image for view in chosen]), generator, 0.2)
        if step >= EASY_STEPS:
            images = recoloured(images, generator, 0.4)
        return loss_of_pairs(model, images, vocabulary([caption(view.tags, rng) for view in chosen]))

    run.train(loss_of)
    return model


def loss_of_pairs(model: open_clip.CLIP, images: Tensor, tokens: Tensor) -> Tensor:
    """open_clip's contrastive loss of images and their captions, encoded in bf16; its scale stays at 100 or less."""
    with torch.autocast("cpu", torch.bfloat16):
        image_features = model.encode_image(normalised(images), normalize=True)
        text_features = model.encode_text(tokens, normalize=True)
    with torch.no_grad():
        model.logit_scale.clamp_(0, np.log(100))
    loss: Tensor = open_clip.ClipLoss()(image_features.float(), text_features.float(), model.logit_scale.exp())
    return loss


def write_config(path: Path) -> None:
    """The json file that open_clip builds the model from."""
    path.write_text(json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8")
