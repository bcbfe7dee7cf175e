"""Tests of the gate in MLflow."""
