"""Where credentials come from and how temporary ones stay alive."""
