"""One module a stage of dvc.yaml. They speak through files only."""
