"""Tiny networks of transformers with random weights: folders of some hundred kilobytes, made in tenths of a second."""

from pathlib import Path
from typing import Any

import torch

SIDE = 64
_DETR = {"hidden_size": 32, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def save(network: Any, folder: Path, *processors: Any) -> Path:
    from transformers.utils import logging

    logging.disable_progress_bar()
    network.save_pretrained(folder)
    for processor in processors:
        processor.save_pretrained(folder)
    return folder


def sam2(folder: Path) -> Path:
    """Its masks are sure of themselves, so that points find some that are stable."""
    from transformers import Sam2Config, Sam2ImageProcessor, Sam2Model, Sam2Processor

    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 8, "num_attention_heads": 1, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 2, 2, 2],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]], "fpn_hidden_size": 32,
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(0)
    network = Sam2Model(Sam2Config(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder))
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.mul_(1e4 if "output_hypernetworks_mlps" in name and "proj_out" in name else 3)
    images = Sam2ImageProcessor(size={"height": SIDE, "width": SIDE}, mask_size={"height": 16, "width": 16})
    return save(network, folder, Sam2Processor(images, target_size=SIDE))


def sam3_tracker(folder: Path) -> Path:
    """What SAM 3 cuts out around points."""
    from transformers import Sam3ImageProcessor, Sam3TrackerConfig, Sam3TrackerModel, Sam3TrackerProcessor

    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": 56, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    vision = {
        "model_type": "sam3_vision_model", "backbone_config": backbone, "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    prompts = {"hidden_size": 32, "image_size": 56, "patch_size": 14, "mask_input_channels": 4}
    decoder = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    torch.manual_seed(0)
    network = Sam3TrackerModel(
        Sam3TrackerConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=decoder)
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            weight.mul_(1e4 if "output_hypernetworks_mlps" in name and "proj_out" in name else 3)
    images = Sam3ImageProcessor(size={"height": 56, "width": 56}, mask_size={"height": 16, "width": 16})
    return save(network, folder, Sam3TrackerProcessor(images, target_size=56))


def sam3_video(folder: Path) -> tuple[Path, Any]:
    """A SAM 3 for video, with detector and tracker, as transformers saves it; and the network."""
    from transformers import Sam3Config, Sam3TrackerConfig, Sam3VideoConfig, Sam3VideoModel

    detector: Any = Sam3Config.from_pretrained(sam3(folder))
    tracker: Any = Sam3TrackerConfig.from_pretrained(sam3_tracker(folder.with_name(f"{folder.name}-tracker")))
    parts = {
        name: tracker.to_dict()[name] for name in ("vision_config", "prompt_encoder_config", "mask_decoder_config")
    }
    memory: dict[str, Any] = {
        "memory_attention_hidden_size": 32, "memory_attention_num_layers": 1, "memory_encoder_hidden_size": 32,
        "memory_attention_num_attention_heads": 1, "memory_attention_feed_forward_hidden_size": 32,
        "memory_encoder_output_channels": 16, "mask_downsampler_embed_dim": 32, "memory_fuser_embed_dim": 32,
        "memory_fuser_intermediate_dim": 32, "memory_fuser_num_layers": 1, "memory_attention_rope_feat_sizes": [4, 4],
    }  # fmt: skip
    of_tracker = {"model_type": "sam3_tracker_video", "image_size": 56, **parts, **memory}
    torch.manual_seed(1)
    network = Sam3VideoModel(Sam3VideoConfig(detector_config=detector.to_dict(), tracker_config=of_tracker))
    return save(network, folder), network


def eomt(folder: Path, *, dinov3: bool = False) -> Path:
    from transformers import (
        EomtConfig,
        EomtDinov3Config,
        EomtDinov3ForUniversalSegmentation,
        EomtForUniversalSegmentation,
        EomtImageProcessor,
    )

    config: dict[str, Any] = {
        "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIDE, "patch_size": 16,
        "num_blocks": 1, "num_queries": 6, "num_register_tokens": 1, "num_labels": 4,
    }  # fmt: skip
    torch.manual_seed(0)
    network: Any = (
        EomtDinov3ForUniversalSegmentation(EomtDinov3Config(**config, intermediate_size=32))
        if dinov3
        else EomtForUniversalSegmentation(EomtConfig(**config))
    )
    size = {"shortest_edge": SIDE, "longest_edge": SIDE}
    return save(network, folder, EomtImageProcessor(size=size, do_pad=True))


def sam3(folder: Path, words: tuple[str, ...] = ("cat", "dog", "horse", "object")) -> Path:
    """With a tokenizer that knows `words` as one token each, all else as letters."""
    from transformers import Sam3Config, Sam3ImageProcessor, Sam3Model, Sam3Processor

    side = 56
    backbone = {
        "model_type": "sam3_vit_model", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": side, "patch_size": 14, "window_size": 2, "global_attn_indexes": [1],
        "pretrain_image_size": 28,
    }  # fmt: skip
    vision = {
        "backbone_config": backbone, "fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
    }  # fmt: skip
    text = {
        "model_type": "clip_text_model", "vocab_size": 400, "hidden_size": 32, "intermediate_size": 32,
        "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 32,
        "bos_token_id": 0, "eos_token_id": 1,
    }  # fmt: skip
    torch.manual_seed(0)
    network = Sam3Model(
        Sam3Config(
            vision_config=vision,
            text_config=text,
            geometry_encoder_config={**_DETR, "roi_size": 2},
            detr_encoder_config=_DETR,
            detr_decoder_config={**_DETR, "num_queries": 5},
            mask_decoder_config={"hidden_size": 32, "num_attention_heads": 2},
        )
    )
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if name.startswith(("mask_decoder", "text", "dot")) and weight.ndim > 1:
                weight.mul_(4)
    images = Sam3ImageProcessor(size={"height": side, "width": side}, mask_size={"height": 16, "width": 16})
    return save(network, folder, Sam3Processor(images, tokenizer(words)))


def tokenizer(words: tuple[str, ...]) -> Any:
    import transformers

    letters = [chr(code) for code in range(33, 127)]
    known, merges = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)], []
    for word in words:
        parts = [*word[:-1], f"{word[-1]}</w>"]
        while len(parts) > 1:
            if (parts[0], parts[1]) not in merges:
                merges.append((parts[0], parts[1]))
            parts[:2] = ["".join(parts[:2])]
            known += [parts[0]] * (parts[0] not in known)
    kind: Any = transformers.CLIPTokenizer
    return kind(vocab={token: number for number, token in enumerate(known)}, merges=merges)
