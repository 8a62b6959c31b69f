"""Image models of timm and torchvision: convolutional networks, vision transformers, and what lies between."""

from __future__ import annotations

from typing import Any

from _building import Made, Outputs, image, import_torchvision


def _timm(full: bool, name: str, size: int = 64, small: dict[str, Any] | None = None, published: int = 224) -> Made:
    """Return a model of timm: at a small image and with ``small`` arguments, or as published.

    Networks are built in full depth unless ``small`` says less; the small image is what makes a comparison cheap.
    """
    import_torchvision()
    import timm

    if full:
        return timm.create_model(name, pretrained=False), (image(published, 1),)
    return timm.create_model(name, pretrained=False, **(small or {})), (image(size),)


def _transformer(full: bool, name: str, size: int = 64, **small: Any) -> Made:
    """Return a transformer of timm, which is built for one image size."""
    return _timm(full, name, size, {"img_size": size, **small})


# -- convolutional networks ---------------------------------------------------------------------------------------------


def resnet18(full: bool = False) -> Made:
    return _timm(full, "resnet18")


def resnext50(full: bool = False) -> Made:
    return _timm(full, "resnext50_32x4d", small={"layers": (1, 1, 1, 1)})


def resnest14(full: bool = False) -> Made:
    return _timm(full, "resnest14d")


def vgg11(full: bool = False) -> Made:
    return _timm(full, "vgg11_bn", 32, {"mlp_ratio": 1 / 16})


def densenet121(full: bool = False) -> Made:
    return _timm(full, "densenet121", small={"block_config": (2, 2, 2, 2)})


def inception_v3(full: bool = False) -> Made:
    return _timm(full, "inception_v3", 96, published=299)


def xception41(full: bool = False) -> Made:
    return _timm(full, "xception41", published=299)


def efficientnet_b0(full: bool = False) -> Made:
    return _timm(full, "efficientnet_b0")


def tf_efficientnet_b0(full: bool = False) -> Made:
    """Pads as TensorFlow does: by the size of the input, more after than before."""
    return _timm(full, "tf_efficientnet_b0")


def mobilenet_v3(full: bool = False) -> Made:
    return _timm(full, "mobilenetv3_large_100")


def ghostnet(full: bool = False) -> Made:
    return _timm(full, "ghostnet_100")


def regnet_y(full: bool = False) -> Made:
    return _timm(full, "regnety_002")


def hrnet(full: bool = False) -> Made:
    return _timm(full, "hrnet_w18_small")


def repvgg(full: bool = False) -> Made:
    return _timm(full, "repvgg_a0")


def nfnet(full: bool = False) -> Made:
    return _timm(full, "nfnet_l0")


def convnext(full: bool = False) -> Made:
    return _timm(full, "convnext_atto")


def convnext_v2(full: bool = False) -> Made:
    return _timm(full, "convnextv2_atto")


def focalnet(full: bool = False) -> Made:
    return _timm(full, "focalnet_tiny_srf")


# -- transformers -------------------------------------------------------------------------------------------------------


def vit_tiny(full: bool = False) -> Made:
    return _transformer(full, "vit_tiny_patch16_224", depth=3)


def vit_rotary(full: bool = False) -> Made:
    """EVA-02: rotary positions and gated feed-forward layers."""
    return _transformer(full, "eva02_tiny_patch14_224", 56, depth=3)


def deit_distilled(full: bool = False) -> Made:
    return _transformer(full, "deit_tiny_distilled_patch16_224", depth=3)


def beit(full: bool = False) -> Made:
    return _transformer(full, "beit_base_patch16_224", depth=2, embed_dim=96, num_heads=4)


def cait(full: bool = False) -> Made:
    return _transformer(full, "cait_xxs24_224", depth=3)


def xcit(full: bool = False) -> Made:
    return _transformer(full, "xcit_nano_12_p16_224", depth=3)


def swin(full: bool = False) -> Made:
    return _transformer(full, "swin_tiny_patch4_window7_224", window_size=4, embed_dim=24, num_heads=(1, 2, 3, 6))


def swin_v2(full: bool = False) -> Made:
    small = {"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 2), "num_heads": (1, 2)}
    return _timm(full, "swinv2_tiny_window8_256", 64, small, published=256)


def pvt_v2(full: bool = False) -> Made:
    return _timm(full, "pvt_v2_b0")


def twins(full: bool = False) -> Made:
    return _transformer(full, "twins_svt_small", embed_dims=(16, 32, 64, 128), depths=(2, 2, 2, 2))


def crossvit(full: bool = False) -> Made:
    return _timm(full, "crossvit_9_240", 240, {"embed_dim": (32, 64)}, published=240)


def volo(full: bool = False) -> Made:
    return _transformer(full, "volo_d1_224")


def mlp_mixer(full: bool = False) -> Made:
    return _transformer(full, "mixer_s16_224")


def poolformer(full: bool = False) -> Made:
    return _timm(full, "poolformer_s12")


# -- convolution and attention together ---------------------------------------------------------------------------------


def coat(full: bool = False) -> Made:
    return _transformer(full, "coat_tiny", serial_depths=(1, 1, 1, 1), parallel_depth=1)


def maxvit(full: bool = False) -> Made:
    return _timm(full, "maxvit_rmlp_pico_rw_256", 64, {"img_size": 64}, published=256)


def levit(full: bool = False) -> Made:
    return _timm(full, "levit_128s", 224)


def mobilevit(full: bool = False) -> Made:
    return _timm(full, "mobilevit_xxs", published=256)


def edgenext(full: bool = False) -> Made:
    return _timm(full, "edgenext_xx_small", published=256)


def efficientformer(full: bool = False) -> Made:
    return _timm(full, "efficientformer_l1", 224, {"depths": (1, 1, 1, 2), "embed_dims": (16, 32, 64, 128)})


# -- torchvision --------------------------------------------------------------------------------------------------------


def _torchvision(path: str, **arguments: Any) -> Any:
    import_torchvision()
    import torchvision

    found: Any = torchvision.models
    for part in path.split("."):
        found = getattr(found, part)
    return found(weights=None, **arguments)


def squeezenet(full: bool = False) -> Made:
    return _torchvision("squeezenet1_1"), (image(224 if full else 64),)


def googlenet(full: bool = False) -> Made:
    model = _torchvision("googlenet", aux_logits=False, init_weights=False)
    return model, (image(224 if full else 64),)


def shufflenet_v2(full: bool = False) -> Made:
    return _torchvision("shufflenet_v2_x0_5"), (image(224 if full else 64),)


def deeplab_v3(full: bool = False) -> Made:
    """Segmentation: dilated convolutions and a bilinear enlargement; a dict is returned."""
    model = _torchvision("segmentation.deeplabv3_mobilenet_v3_large", weights_backbone=None)
    return Outputs(model), (image(512 if full else 64),)


def lraspp(full: bool = False) -> Made:
    model = _torchvision("segmentation.lraspp_mobilenet_v3_large", weights_backbone=None)
    return Outputs(model), (image(512 if full else 64),)


def resnet_3d(full: bool = False) -> Made:
    import torch

    size, frames = (112, 16) if full else (32, 4)
    return _torchvision("video.r3d_18"), (torch.randn(1, 3, frames, size, size),)


def raft(full: bool = False) -> Made:
    """Optical flow: a correlation volume looked up with ``grid_sample``, in a loop that is unrolled."""
    return Outputs(_torchvision("optical_flow.raft_small"), num_flow_updates=2), (image(128, 1), image(128, 1))
