"""Mask R-CNN over the encoder of a U-Net, beside the same heads for classes, crown diameter and density.

Proposals, box and mask heads are those of torchvision (arXiv:1703.06870). In evaluation what was found is drawn into
the channels of centres and offsets, so that decoding, prediction of large rasters and scores are those of every network
for objects; where masks overlap the surer one is on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import torch
import torch.nn.functional as F
from torch import nn

from maskwright.models.heads import head_slices
from maskwright.models.multitask_unet import MultitaskUNet
from maskwright.models.trunk import TrunkOptions

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Detector", "MaskRcnn", "ProposalOutputs"]

_FROM_PROPOSALS = ("centre", "offset")
_PYRAMID = 64  # channels of the feature pyramid
_HIDDEN = 256  # of the box head
_SURE, _UNSURE = 6.0, -12.0  # logits of what was drawn, and of all other places of a map of centres
_AWAY = 1e4  # pixels: an offset that leads to no centre


@dataclass(frozen=True)
class ProposalOutputs:
    """What the network gives in training: outputs of the heads, and what the losses of proposals are taken of.

    Attributes:
        dense: (B, K, H, W); 0 in the channels of centres and offsets.
        features: Of each level of the encoder.
        detector: Proposals and what is made of them.
    """

    dense: Tensor
    features: Sequence[Tensor]
    detector: Detector

    def losses(self, samples: Sequence[int], targets: list[dict[str, Tensor]]) -> Tensor:
        """Sum of the losses of proposals, boxes, classes and masks; each is a mean over what was sampled.

        Args:
            samples: Positions of the samples whose objects are known.
            targets: For each of them ``boxes`` (N, 4), ``labels`` (N,) from 1, ``masks`` (N, H, W) uint8.
        """
        kept = [level[list(samples)] for level in self.features]
        height, width = self.dense.shape[-2:]
        return self.detector.losses(kept, (height, width), targets)


class MaskRcnn(MultitaskUNet):
    """A U-Net with heads, and proposals over its encoder; a condition is accepted and ignored.

    Args:
        in_channels: Channels of the image.
        num_classes: Channels of all heads together.
        heads: Name to its channels; ``centre`` and ``offset`` are filled from proposals. None: a single head, and no
            proposals.
        head_channels: Channels inside each head.
        detections: Most objects of an image.
        options: Those of ``TrunkOptions``.

    Attributes:
        object_ids: Channel of ``semantic`` that belongs to each channel of ``centre``.
        offset_unit_px: Unit of offsets.
        draws_objects: Maps are drawn, so windows of a large raster are laid side by side and not blended.
    """

    draws_objects = True

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        *,
        heads: Mapping[str, int] | None = None,
        head_channels: int = 32,
        detections: int = 300,
        **options: Unpack[TrunkOptions],
    ) -> None:
        named = dict(heads or {"output": num_classes})
        dense = {name: channels for name, channels in named.items() if name not in _FROM_PROPOSALS}
        super().__init__(in_channels, sum(dense.values()), heads=dense, head_channels=head_channels, **options)
        self.heads = named
        classes = named.get("centre", 0)
        self.object_ids = tuple(range(1, classes + 1))
        self.offset_unit_px = 16.0
        self.detector = Detector(self.widths, classes, detections) if classes else None
        if classes:
            self.receptive_field_px = None  # a box may be as large as the image

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Any:
        """Outputs (B, num_classes, H, W), heads one behind another; in training :class:`ProposalOutputs`.

        Raises:
            ShapeError: If the image has another number of channels or dimensions.
        """
        features = self.encode(image)
        dense: Tensor = self.head(self.decoder(features))[:, :, : image.shape[2], : image.shape[3]]
        if self.detector is None:
            return dense
        whole = self._with_room(dense)
        if self.training:
            return ProposalOutputs(whole, features, self.detector)
        return self._drawn(whole, self.detector.detect(features, (image.shape[2], image.shape[3])))

    def _with_room(self, dense: Tensor) -> Tensor:
        """The outputs of the heads with zeros in the channels of centres and offsets."""
        own = {name: channels for name, channels in self.heads.items() if name not in _FROM_PROPOSALS}
        parts = {name: dense[:, channels] for name, channels in head_slices(own).items()}
        size = dense.shape[-2:]
        return torch.cat(
            [
                parts[name] if name in parts else dense.new_zeros(len(dense), channels, *size)
                for name, channels in self.heads.items()
            ],
            dim=1,
        )

    def _drawn(self, outputs: Tensor, found: Sequence[Mapping[str, Tensor]]) -> Tensor:
        """The outputs with what was found in the channels of classes, centres and offsets."""
        outputs, where = outputs.clone(), head_slices(self.heads)
        outputs[:, where["centre"]] = _UNSURE
        outputs[:, where["offset"]] = _AWAY / self.offset_unit_px
        for image, objects in zip(outputs, found, strict=True):
            maps = {name: image[channels] for name, channels in where.items()}
            for index in torch.argsort(objects["scores"]).tolist():
                self._draw(maps, *(objects[name][index] for name in ("boxes", "labels", "scores", "masks")))
        return outputs

    def _draw(self, maps: Mapping[str, Tensor], box: Tensor, label: Tensor, score: Tensor, mask: Tensor) -> None:
        height, width = maps["centre"].shape[-2:]
        x0, y0, x1, y1 = (int(value) for value in torch.cat([box[:2].floor(), box[2:].ceil()]).tolist())
        rows, cols = slice(max(y0, 0), min(y1, height)), slice(max(x0, 0), min(x1, width))
        if rows.start >= rows.stop or cols.start >= cols.stop:
            return
        size = (y1 - y0, x1 - x0)
        whole = F.interpolate(mask[None].float(), size, mode="bilinear", align_corners=False)[0, 0] > 0.5
        inside = whole[rows.start - y0 : rows.stop - y0, cols.start - x0 : cols.stop - x0]
        kind = int(label) - 1
        middle_x, middle_y = (x0 + x1) / 2 - 0.5, (y0 + y1) / 2 - 0.5
        row, col = (int(min(max(round(m), 0), most - 1)) for m, most in ((middle_y, height), (middle_x, width)))
        maps["centre"][kind, row, col] = torch.logit(score.float().clamp(1e-4, 1 - 1e-4))
        y = torch.arange(rows.start, rows.stop, device=box.device, dtype=torch.float32)[:, None]
        x = torch.arange(cols.start, cols.stop, device=box.device, dtype=torch.float32)[None]
        offsets = torch.stack([(col - x).expand_as(inside), (row - y).expand_as(inside)]) / self.offset_unit_px
        here = maps["offset"][:, rows, cols]
        here[:, inside] = offsets[:, inside].to(here.dtype)
        classes = maps["semantic"][:, rows, cols]
        classes[:, inside] = -_SURE
        classes[self.object_ids[kind], inside] = _SURE


class Detector(nn.Module):
    """Proposals over some levels of an encoder, and boxes, classes and masks from them.

    Args:
        widths: Channels of each level of the encoder; level i is smaller by 2**i.
        classes: Kinds of objects.
        detections: Most objects of an image.
    """

    def __init__(self, widths: Sequence[int], classes: int, detections: int) -> None:
        super().__init__()
        from torchvision.models.detection.anchor_utils import AnchorGenerator
        from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
        from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
        from torchvision.models.detection.roi_heads import RoIHeads
        from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
        from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

        self.levels = tuple(range(min(2, len(widths) - 1), len(widths)))
        names = [str(level) for level in self.levels]
        sizes = tuple((4 * 2**level, 6 * 2**level) for level in self.levels)
        anchors = AnchorGenerator(sizes, ((0.7, 1.0, 1.4),) * len(sizes))
        self.pyramid = FeaturePyramidNetwork([widths[level] for level in self.levels], _PYRAMID)
        most = {"training": 1000, "testing": 1000}
        kept = {"training": 500, "testing": max(500, detections)}
        head = RPNHead(_PYRAMID, anchors.num_anchors_per_location()[0])
        self.rpn = RegionProposalNetwork(anchors, head, 0.7, 0.3, 256, 0.5, most, kept, 0.7)
        self.roi = RoIHeads(
            MultiScaleRoIAlign(names, 7, 2),
            TwoMLPHead(_PYRAMID * 49, _HIDDEN),
            FastRCNNPredictor(_HIDDEN, classes + 1),
            *(0.5, 0.5, 256, 0.25, None, 0.05, 0.5, detections),
            MultiScaleRoIAlign(names, 14, 2),
            MaskRCNNHeads(_PYRAMID, (64, 64), 1),
            MaskRCNNPredictor(64, 64, classes + 1),
        )

    def losses(self, features: Sequence[Tensor], size: tuple[int, int], targets: list[dict[str, Tensor]]) -> Tensor:
        """Sum of all losses for images of ``size``; see :meth:`ProposalOutputs.losses`."""
        modes = [(part, part.training) for part in (self.rpn, self.roi)]
        for part, _ in modes:
            part.train()
        try:
            with torch.autocast(features[0].device.type, enabled=False):
                images, levels, sizes = self._prepared(features, size)
                proposals, of_proposals = self.rpn(images, levels, targets)
                _, of_boxes = self.roi(levels, proposals, sizes, targets)
        finally:
            for part, training in modes:
                part.train(training)
        return torch.stack([*of_proposals.values(), *of_boxes.values()]).sum()

    def detect(self, features: Sequence[Tensor], size: tuple[int, int]) -> list[dict[str, Tensor]]:
        """``boxes``, ``labels``, ``scores`` and ``masks`` (N, 1, 28, 28) of each image."""
        with torch.autocast(features[0].device.type, enabled=False):
            images, levels, sizes = self._prepared(features, size)
            proposals, _ = self.rpn(images, levels)
            found: list[dict[str, Tensor]] = self.roi(levels, proposals, sizes)[0]
        return found

    def _prepared(self, features: Sequence[Tensor], size: tuple[int, int]) -> tuple[Any, dict[str, Tensor], Any]:
        from torchvision.models.detection.image_list import ImageList

        sizes = [size] * len(features[0])
        images = ImageList(features[0].float(), sizes)  # of the padded size, whatever its channels
        levels: dict[str, Tensor] = self.pyramid({str(level): features[level].float() for level in self.levels})
        return images, levels, sizes
