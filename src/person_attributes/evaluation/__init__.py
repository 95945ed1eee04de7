"""Numbers on predictions: metrics, intervals, calibration, comparisons, the gate's conditions."""
