"""Lesson 06's exercises whose references are not the library's own functions: they agree with PyTorch."""

import importlib

import torch
from torch import nn

from minilm import training
from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.model import LanguageModel

exercises = importlib.import_module("minilm.course.exercises.06_training")


def test_my_adamw_is_pytorchs():
    torch.manual_seed(0)
    start = [torch.randn(3, 4, dtype=torch.float64), torch.randn(5, dtype=torch.float64)]
    settings = {"lr": 0.05, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.3}
    runs = []
    for kind in (exercises.MyAdamW, torch.optim.AdamW):
        torch.manual_seed(1)
        weights = [nn.Parameter(tensor.clone()) for tensor in start]
        optimizer = kind(weights, **settings)
        for _ in range(20):
            optimizer.zero_grad()
            sum((weight * torch.randn_like(weight)).sum() for weight in weights).backward()
            optimizer.step()
        runs.append(torch.cat([weight.detach().flatten() for weight in weights]))
    torch.testing.assert_close(*runs)


def test_clipping_is_pytorchs():
    torch.manual_seed(0)
    gradients = [torch.randn(3, 4), torch.randn(5)]
    for most in (0.1, 1.0, 100.0):
        weights = [nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        nn.utils.clip_grad_norm_(weights, most)
        expected = [weight.grad for weight in weights]
        torch.testing.assert_close(exercises.clip_by_norm(gradients, most), expected, rtol=1e-5, atol=1e-6)


def test_accumulated_pieces_are_the_gradient_of_the_whole():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(6, 3), nn.Linear(3, 6))
    ids, targets = torch.randint(6, (4, 5)), torch.randint(6, (4, 5))
    targets[0, 2:] = exercises.IGNORE
    whole = nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    expected = torch.autograd.grad(whole, list(model.parameters()))
    loss = exercises.accumulate_gradients(model, [(ids[:1], targets[:1]), (ids[1:], targets[1:])])
    assert abs(loss - whole.item()) < 1e-6
    torch.testing.assert_close([parameter.grad for parameter in model.parameters()], list(expected))


def test_the_answers_drive_the_librarys_trainer():
    config = ModelConfig(20, 8, 1, 16, attention=AttentionConfig(2), feed_forward=FeedForwardConfig(16))
    losses = []
    for mine in (True, False):
        torch.manual_seed(0)
        model = LanguageModel(config)
        kind = exercises.MyAdamW if mine else training.AdamW
        batches = training.DocumentBatches([[1, 2, 3], [4, 5, 6, 7], [2, 2]], batch_size=2, end_id=0)
        run = training.Trainer(
            model,
            batches,
            training.TrainingConfig(steps=8),
            loss=exercises.next_token_loss if mine else None,
            optimizer=kind(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1),
        )
        losses.append(torch.tensor([record.loss for record in run.train()]))
    torch.testing.assert_close(*losses)
    assert losses[0][-1] < losses[0][0]
