"""Environments of foreign engines that we made: found, installed, listed and removed."""
