"""Saves the model in MLflow's layout: ``python mlflow_save.py FOLDER``."""

import os
import sys

import lightgbm as lgb
import mlflow.lightgbm

mlflow.lightgbm.save_model(lgb.Booster(model_file=os.environ["BENCH_MODEL"]), sys.argv[1], pip_requirements=[])
