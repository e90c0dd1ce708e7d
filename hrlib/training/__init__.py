"""The base model (Sec. 4.1): the supervised step, pretraining, and the supervised oracle."""
