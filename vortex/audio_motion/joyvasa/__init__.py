"""JoyVASA (Cao et al., 2024, arXiv:2411.09209): a voice becomes expression and pose by diffusion."""
