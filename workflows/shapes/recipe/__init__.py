"""How the built-in encoders are trained; see `train_encoders.py`."""
