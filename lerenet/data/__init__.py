"""The data: images and masks, import, the made sample, catalogue, folds, episodes, validation."""
