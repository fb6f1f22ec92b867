"""Trains the network on the corpus."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import trange

from models.warp.speech.rows import COLUMN, LOOKAHEAD, OUTPUTS, PROBABILITIES
from speech_to_motion.augmentation import augment, crop
from speech_to_motion.corpus import Corpus
from speech_to_motion.muon import Muon
from speech_to_motion.network import SpeechToMotionModule

BATCH, ROWS = 16, 160
WARM_ROWS = 8
"""The first rows of a piece are not judged: too little was heard."""
_MATRIX_RATE, _OTHER_RATE, _DECAY = 6e-3, 3e-3, 0.02
_SHAPE = slice(0, COLUMN["jaw"] + 1)
_SHAPE_WEIGHT = torch.tensor([3.0, 1.5, 1.5])
_VELOCITY_WEIGHT = 4.0
# Added to the shape's where lips are shut: an open "p" is seen, a narrow "a" is not.
_SHUT_WEIGHT = 1.0
# Lips rarely close: without the positive weight the network never dares to say so.
_POSITIVE_WEIGHT = torch.tensor([4.0, 4.0, 2.0, 1.0])
_PROBABILITY_WEIGHT = torch.tensor([0.30, 0.20, 0.06, 0.08])
_PHONE_WEIGHT = 0.03
_DRAFT_WEIGHT = 0.12  # of what is said of a row before all its lookahead was heard
assert OUTPUTS[PROBABILITIES] == ("closure", "labiodental", "tongue", "speech")


def loss(said: Tensor, phones: Tensor, motion: Tensor, phone: Tensor) -> Tensor:
    """How wrong the network is about a batch.

    Squared error of aperture, width and jaw and of their velocities; binary cross-entropy, weighted
    by class, of the probabilities; cross-entropy of the phones.
    """
    rows = motion.shape[1]
    first = LOOKAHEAD + WARM_ROWS
    truth = torch.stack([motion[:, first - d : rows - d] for d in range(LOOKAHEAD + 1)], dim=2)
    said = said[:, first:]
    weight = torch.full((LOOKAHEAD + 1, 1), _DRAFT_WEIGHT)
    weight[LOOKAHEAD] = 1.0

    error = said[..., _SHAPE] - truth[..., _SHAPE]
    shut = 1.0 + _SHUT_WEIGHT * truth[..., COLUMN["closure"], None]
    shape = (error.square() * shut * _SHAPE_WEIGHT * weight).sum((2, 3)).mean()
    velocity = (error.diff(dim=1).square() * _SHAPE_WEIGHT * weight).sum((2, 3)).mean()
    entropy = F.binary_cross_entropy_with_logits(
        said[..., PROBABILITIES],
        truth[..., PROBABILITIES],
        pos_weight=_POSITIVE_WEIGHT,
        reduction="none",
    )
    probability = (entropy * _PROBABILITY_WEIGHT * weight).sum((2, 3)).mean()
    named = F.cross_entropy(
        phones[:, first:].flatten(0, 1), phone[:, first - LOOKAHEAD : rows - LOOKAHEAD].flatten()
    )
    return shape + _VELOCITY_WEIGHT * velocity + probability + _PHONE_WEIGHT * named


def strength_at(progress: float) -> Tensor:
    """Augmentation of each piece of a batch, (BATCH,), when ``progress`` of 1 is done.

    It is spread evenly, so that half of a batch is always light. The hardest grows from nothing
    over the first 40 %, as heavy augmentation from the start teaches slowly; the last quarter is
    light, which fits the network to speech as it mostly is.
    """
    hardest = 0.6 if progress >= 0.75 else min(1.0, 0.1 + 0.9 * progress / 0.4)
    return torch.linspace(0.1, hardest, BATCH)


def rate_at(progress: float) -> float:
    """Share of the peak learning rate: a short warm-up, full until half time, then falling."""
    return min(1.0, progress / 0.05, 2.0 * (1.0 - progress))


def train(corpus: Corpus, steps: int, seed: int) -> SpeechToMotionModule:
    """A network trained from nothing; the same seed gives the same one on the same machine."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = SpeechToMotionModule()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    heads = {network.motion.weight, network.phones.weight}
    matrices = [p for p in network.parameters() if p.ndim == 2 and p not in heads]
    others = [p for p in network.parameters() if p.ndim != 2 or p in heads]
    optimizers = (
        Muon(matrices, _MATRIX_RATE, _DECAY),
        torch.optim.AdamW(others, _OTHER_RATE, weight_decay=_DECAY),
    )
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_at((step + 1) / steps))
        for optimizer in optimizers
    ]
    bar = trange(steps, desc="training", unit="step", mininterval=5.0)
    smooth = None
    for step in bar:
        strength = strength_at(step / steps)
        mel, motion, phone = crop(corpus, ROWS, strength, generator)
        mel = augment(mel, strength, generator)
        said, phones, _ = network(mel, network.initial_state(BATCH))
        cost = loss(said, phones, motion, phone)
        network.zero_grad()
        cost.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        averaged.update_parameters(network)
        smooth = cost.item() if smooth is None else 0.98 * smooth + 0.02 * cost.item()
        bar.set_postfix(loss=f"{smooth:.3f}", hardest=f"{strength[-1]:.1f}", refresh=False)
    trained = averaged.module
    assert isinstance(trained, SpeechToMotionModule)
    return trained.eval()
