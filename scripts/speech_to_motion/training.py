"""Trains the network on the corpus."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import trange

from models.warp.speech_to_motion import COLUMN, LOOKAHEAD, OUTPUTS, PROBABILITIES, SpeechToMotion
from speech_to_motion.augmentation import augment, crop
from speech_to_motion.corpus import Corpus

BATCH, ROWS = 24, 200
PEAK_RATE = 3e-3
_WARM_ROWS = 8  # too little heard to be judged by
_SHAPE = slice(0, COLUMN["jaw"] + 1)
_SHAPE_WEIGHT = torch.tensor([3.0, 1.5, 1.5])
_VELOCITY_WEIGHT = 4.0
# Lips rarely close: without the positive weight the network never dares to say so.
_POSITIVE_WEIGHT = torch.tensor([4.0, 4.0, 2.0, 1.0])
_PROBABILITY_WEIGHT = torch.tensor([0.20, 0.15, 0.06, 0.08])
_PHONE_WEIGHT = 0.03
_DRAFT_WEIGHT = 0.12  # of what is said of a row before all its lookahead was heard
assert OUTPUTS[PROBABILITIES] == ("closure", "labiodental", "tongue", "speech")


def loss(said: Tensor, phones: Tensor, motion: Tensor, phone: Tensor) -> Tensor:
    """How wrong the network is about a batch.

    Squared error of aperture, width and jaw and of their velocities; binary cross-entropy, weighted
    by class, of the probabilities; cross-entropy of the phones.
    """
    rows = motion.shape[1]
    first = LOOKAHEAD + _WARM_ROWS
    truth = torch.stack([motion[:, first - d : rows - d] for d in range(LOOKAHEAD + 1)], dim=2)
    said = said[:, first:]
    weight = torch.full((LOOKAHEAD + 1, 1), _DRAFT_WEIGHT)
    weight[LOOKAHEAD] = 1.0

    error = said[..., _SHAPE] - truth[..., _SHAPE]
    shape = (error.square() * _SHAPE_WEIGHT * weight).sum((2, 3)).mean()
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


def strength_at(step: int, steps: int) -> float:
    """Augmentation grows over the first third and is lighter in the last sixth."""
    progress = step / steps
    return 0.7 if progress > 5 / 6 else min(1.0, 0.1 + 3 * progress)


def train(corpus: Corpus, steps: int, seed: int) -> SpeechToMotion:
    """A network trained from nothing; the same seed gives the same one on the same machine."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = SpeechToMotion()
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=steps, pct_start=0.15
    )
    bar = trange(steps, desc="training", unit="step")
    smooth = None
    for step in bar:
        strength = strength_at(step, steps)
        mel, motion, phone = crop(corpus, BATCH, ROWS, strength, generator)
        mel = augment(mel, strength, generator)
        said, phones, _ = network(mel, network.initial_state(BATCH))
        cost = loss(said, phones, motion, phone)
        optimizer.zero_grad()
        cost.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        averaged.update_parameters(network)
        smooth = cost.item() if smooth is None else 0.98 * smooth + 0.02 * cost.item()
        bar.set_postfix(loss=f"{smooth:.3f}", augmentation=f"{strength:.1f}", refresh=False)
    trained = averaged.module
    assert isinstance(trained, SpeechToMotion)
    return trained.eval()


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's r of two series."""
    return float(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1])


def area_under_curve(score: Tensor, truth: Tensor) -> float:
    """Chance that a true example scores above a false one (Mann and Whitney)."""
    rank = score.argsort().argsort().double() + 1
    positive = int(truth.sum())
    negative = len(truth) - positive
    return float((rank[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


@torch.inference_mode()
def validate(network: SpeechToMotion, corpus: Corpus, seed: int) -> dict[str, float]:
    """Figures on speech the network was not trained on, augmented at half strength."""
    generator = torch.Generator().manual_seed(seed)
    mel, motion, phone = crop(corpus, 64, ROWS, 0.5, generator)
    said, phones, _ = network(augment(mel, 0.5, generator), network.initial_state(64))
    first = LOOKAHEAD + _WARM_ROWS
    truth = motion[:, first - LOOKAHEAD : ROWS - LOOKAHEAD]
    final, now = said[:, first:, LOOKAHEAD], said[:, first:, 0]
    now_truth = motion[:, first:]
    named = phones[:, first:].argmax(-1) == phone[:, first - LOOKAHEAD : ROWS - LOOKAHEAD]
    closed = (truth[..., COLUMN["closure"]] > 0.5).flatten()
    lab = (truth[..., COLUMN["labiodental"]] > 0.5).flatten()
    ap, width, closure = COLUMN["aperture"], COLUMN["width"], COLUMN["closure"]
    return {
        "aperture_r": correlation(final[..., ap], truth[..., ap]),
        "width_r": correlation(final[..., width], truth[..., width]),
        "aperture_r_without_lookahead": correlation(now[..., ap], now_truth[..., ap]),
        "closure_auc": area_under_curve(final[..., closure].flatten(), closed),
        "labiodental_auc": area_under_curve(final[..., COLUMN["labiodental"]].flatten(), lab),
        "phone_accuracy": float(named.float().mean()),
    }
