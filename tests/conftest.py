"""What holds for every test."""

import torch

torch.set_num_threads(1)  # as in a worker: threads of its own wait for each other on a busy machine
