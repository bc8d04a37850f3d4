"""The standing services of the retraining: started, watched over and stopped as one."""
