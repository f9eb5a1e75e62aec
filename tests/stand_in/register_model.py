"""Runs with MLflow's own client: `<server> <model.onnx> <name> <hook> <secret>` logs, registers, and sets an alias."""

import sys

import mlflow
import mlflow.onnx
import onnx


def main(server: str, path: str, name: str, hook: str, secret: str) -> None:
    mlflow.set_tracking_uri(server)
    client = mlflow.MlflowClient()
    events = ["model_version.created", "model_version_alias.created"]
    client.create_webhook(name="modelpress", url=hook, events=events, secret=secret)
    mlflow.set_experiment("lab")
    logged = mlflow.onnx.log_model(onnx.load(path), name="model", registered_model_name=name)
    client.set_registered_model_alias(name, "candidate", logged.registered_model_version)
    sys.stdout.write(f"{logged.registered_model_version}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
