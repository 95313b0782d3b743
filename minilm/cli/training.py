"""The commands that train: `minilm pretrain | finetune | train`."""
