"""What holds for all tests."""

import torch

# Tensors of tests are small: threads that spin for each other's share take three times as long, and
# ten times on a machine that does other work.
torch.set_num_threads(1)
