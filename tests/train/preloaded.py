"""What processes that train import, for the one from which they fork."""

import gc

import torch._dynamo  # which the first step of an optimizer imports
import torch.distributed.checkpoint
import torch.distributed.fsdp
import torch.distributed.tensor

import tinyllama.cli.commands
import tinyllama.evaluation.bits
import tinyllama.family
import tinyllama.family.train
import tinyllama.train.trainer

__all__ = ["tinyllama", "torch"]

gc.collect()
gc.freeze()  # training collects garbage: that would go through all of this, and copy it
