"""Computes metrics, intervals, calibration, comparisons and the gate's conditions."""
