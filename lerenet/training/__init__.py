"""Pretraining of backbones, episodic training of heads, resumable at any step."""
