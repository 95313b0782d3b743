"""Build a small language model yourself, from bytes to a model that reasons, and understand every line of it.

One module for each lesson, under the lesson's name: lesson 01 is `minilm.tokenizer`, lesson 03 is `minilm.attention`.
`minilm.course` checks exercises, `minilm.data` makes and reads text, `minilm.cli` is the command line.
"""

__version__ = "0.1.0"
