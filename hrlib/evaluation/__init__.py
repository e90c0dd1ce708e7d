"""How far off: joint errors, protocols, before and after, published curves (Sec. 4.4 and 4.5)."""
