"""The engines that render frames."""
