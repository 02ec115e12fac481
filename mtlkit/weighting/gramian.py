"""Gramian-level methods: weights from A = G G' alone."""
