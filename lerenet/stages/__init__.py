"""One module a stage of dvc.yaml: read settings and inputs, do the work, track it, write outputs."""
