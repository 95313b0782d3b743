"""Lesson 09: mixture of experts. Many feed-forwards in the place of one, of which each token passes through a few.

- `routing`: from logits to a choice of experts, with or without a limit on how many an expert serves;
- `routers`: what computes the logits, for each token or for a whole window;
- `experts`: a bank of SwiGLUs;
- `dispatch`: bringing tokens to their experts and back, as a loop and fast;
- `losses`: balance, and measures of it;
- `layer`: all of it as a feed-forward that a block can hold;
- `product_key`: thousands of experts of one neuron each, found by two short lists of keys (CDMoE);
- `report`: what a model's experts do;
- `from_dense`: a trained dense model continued with experts.
"""

from minilm.config import MoEConfig
from minilm.moe.dispatch import dispatch_loop, dispatch_sorted
from minilm.moe.experts import ExpertBank
from minilm.moe.from_dense import dense_to_sparse
from minilm.moe.layer import MixtureOfExperts, make_router
from minilm.moe.losses import coefficient_of_variation, importance_loss, load_balancing_loss, usage_entropy, z_loss
from minilm.moe.product_key import CDMoE, neuron_experts, neuron_experts_fast, product_key_top_k
from minilm.moe.report import LayerUse, MoEReport, moe_report
from minilm.moe.routers import Router, SampleRouter, TokenRouter
from minilm.moe.routing import Routing, capacity, choose, expert_choice_route, top_k_route

__all__ = [
    "CDMoE",
    "ExpertBank",
    "LayerUse",
    "MixtureOfExperts",
    "MoEConfig",
    "MoEReport",
    "Router",
    "Routing",
    "SampleRouter",
    "TokenRouter",
    "capacity",
    "choose",
    "coefficient_of_variation",
    "dense_to_sparse",
    "dispatch_loop",
    "dispatch_sorted",
    "expert_choice_route",
    "importance_loss",
    "load_balancing_loss",
    "make_router",
    "moe_report",
    "neuron_experts",
    "neuron_experts_fast",
    "product_key_top_k",
    "top_k_route",
    "usage_entropy",
    "z_loss",
]
