"""Tests: unit (fast; no network, broker or camera), integration (real processes), fault (kill, full disk)."""
