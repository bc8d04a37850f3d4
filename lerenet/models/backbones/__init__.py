"""Backbones: built (`factory`), filled (`weights`), and made quick for prediction."""
