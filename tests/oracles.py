"""Models that need no training: one that knows the grammar exactly, and ones that are wrong in a known way."""

import torch

from minilm.config import AttentionConfig, FeedForwardConfig, ModelConfig
from minilm.data import stories
from minilm.model import LanguageModel
from minilm.tokenizer import ByteTokenizer

BYTES = ByteTokenizer(["<end>"])
END_ID = 256


def small_config(vocab_size=257, context_length=400, **changes):
    config = ModelConfig(
        vocab_size=vocab_size,
        dim=16,
        num_layers=1,
        context_length=context_length,
        attention=AttentionConfig(num_heads=2),
        feed_forward=FeedForwardConfig(hidden=32),
    )
    return config.replace(**changes)


def random_model(seed=0, **changes):
    torch.manual_seed(seed)
    model = LanguageModel(small_config(**changes)).double().eval()
    for parameter in model.parameters():  # large enough that predictions depend on the context
        parameter.data *= 5
    return model


class Oracle(LanguageModel):
    """Predicts bytes of stories of one size with their true probabilities; ASCII stories only.

    `noise` is the share of probability that is spread over everything; `sees_next` gives the whole of it to what really comes next.
    """

    def __init__(self, size="easy", noise=0.0, sees_next=False):
        super().__init__(small_config())
        self.grammar, self.noise, self.sees_next = stories.grammar(size), noise, sees_next
        self._no_cache = "the oracle reads the whole text"
        self.own_parts["head"] = Oracle  # or writing would ask the parts and not the model

    def forward(self, ids, cache=None, **options):
        logits = torch.full((*ids.shape, 257), -1e4, dtype=torch.float64)
        for row, tokens in enumerate(ids.tolist()):
            stop = next((i for i, token in enumerate(tokens[1:], 1) if token in (END_ID, 0)), len(tokens))  # padding
            text = bytes(tokens[1:stop]).decode("latin-1")
            for place, after in enumerate(self.grammar.next_char_along(text)):
                truth = torch.zeros(257, dtype=torch.float64)
                for character, p in after.items():
                    truth[END_ID if character == stories.END else ord(character)] = p
                if self.sees_next and place + 1 < stop:
                    truth[:] = 0.0
                    truth[tokens[place + 1]] = 1.0
                mixed = (1 - self.noise) * truth + self.noise / 257
                logits[row, place] = mixed.clamp(min=1e-300).log()
        return logits


class Memoriser(LanguageModel):
    """Knows what comes after any `width` tokens of one text, and is wrong after one place of it if told so."""

    def __init__(self, ids, width=8, vocab_size=257, wrong_at=None, context_length=16):
        super().__init__(small_config(vocab_size, context_length))
        self._no_cache = "the memoriser looks things up"
        self.own_parts["head"] = Memoriser
        self.next = {tuple(ids[i : i + width]): ids[i + width] for i in range(len(ids) - width)}
        assert len(self.next) == len(ids) - width, "the text repeats itself within the width"
        if wrong_at is not None:
            self.next[tuple(ids[wrong_at - width : wrong_at])] = (ids[wrong_at] + 1) % 256
        self.width = width

    def forward(self, ids, cache=None, **options):
        logits = torch.zeros(*ids.shape, self.config.vocab_size)
        for row, tokens in enumerate(ids.tolist()):
            logits[row, -1, self.next.get(tuple(tokens[-self.width :]), 0)] = 50.0
        return logits
