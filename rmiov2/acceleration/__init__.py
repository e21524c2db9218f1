"""The same numbers in less time: CUDA graphs, compiled regions, kernels, and weights' gradients summed once."""
